package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const defaultBridge = "bridge"

// Options of bridge networks that are honoured.
const (
	optionBridgeName = "com.docker.network.bridge.name"
	optionICC        = "com.docker.network.bridge.enable_icc"
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
)

// optionMacvlanParent is the node's interface that a macvlan network is on.
const optionMacvlanParent = "parent"

// hasAddressPool reports whether this package allocates the addresses of a driver's networks.
func hasAddressPool(driver string) bool {
	return driver == shoal.DriverBridge || driver == shoal.DriverMacvlan
}

// localNetwork is a network of this node alone. Its Network is not changed once it is made.
type localNetwork struct {
	shoal.Network
	pool *addressAllocator // nil for host and none
	// pool6 is nil for a network without IPv6.
	pool6 *addressAllocator
}

// subnet6 is the network's IPv6 subnet; nil if it has none. The first of its subnets is always an IPv4 one.
func (l *localNetwork) subnet6() *shoal.Subnet {
	for i := range l.IPAM {
		if l.IPAM[i].Subnet.Addr().Is6() {
			return &l.IPAM[i]
		}
	}
	return nil
}

// gateway6 is invalid for a network without IPv6.
func (l *localNetwork) gateway6() netip.Prefix {
	s := l.subnet6()
	if s == nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(s.Gateway, s.Subnet.Bits())
}

func (l *localNetwork) gateway() netip.Prefix {
	return netip.PrefixFrom(l.IPAM[0].Gateway, l.IPAM[0].Subnet.Bits())
}

func (l *localNetwork) bridge() string {
	switch {
	case l.Spec.Options[optionBridgeName] != "":
		return l.Spec.Options[optionBridgeName]
	default:
		return string("br-" + l.ID[:12])
	}
}

func (l *localNetwork) option(name string, otherwise bool) bool {
	if v, err := strconv.ParseBool(l.Spec.Options[name]); err == nil {
		return v
	}
	return otherwise
}

func (n *Networks) localDir() string { return filepath.Join(n.cfg.DataRoot, "network") }

func (n *Networks) loadLocalNetworks() error {
	files, err := filepath.Glob(filepath.Join(n.localDir(), "*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		var net shoal.Network
		if err := readJSON(f, &net); err != nil {
			return err
		}
		n.addLocalNetwork(net)
	}
	return nil
}

func (n *Networks) addLocalNetwork(net shoal.Network) *localNetwork {
	l := &localNetwork{Network: net}
	if hasAddressPool(net.Spec.Driver) {
		l.pool = newSubnetAllocator(net.IPAM[0])
	}
	if s := l.subnet6(); s != nil {
		l.pool6 = newSubnetAllocator(*s)
	}
	n.localNetworks[net.ID] = l
	return l
}

// newSubnetAllocator allocates a subnet's addresses, except for the gateway and the auxiliary addresses.
func newSubnetAllocator(s shoal.Subnet) *addressAllocator {
	pool := newAddressAllocator(s.Subnet, s.Range)
	pool.used[s.Gateway] = true
	for _, aux := range s.Aux {
		pool.used[aux] = true
	}
	return pool
}

// createPredefined makes the networks that every node has.
func (n *Networks) createPredefined() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, spec := range map[string]shoal.NetworkSpec{
		defaultBridge: {Driver: shoal.DriverBridge, Options: map[string]string{
			"com.docker.network.bridge.default_bridge": "true", optionICC: "true", optionMasquerade: "true",
			"com.docker.network.bridge.host_binding_ipv4": "0.0.0.0", optionBridgeName: "docker0", shoal.OptionMTU: "1500"}},
		"host": {Driver: shoal.DriverHost},
		"none": {Driver: shoal.DriverNull},
	} {
		if n.localLocked(name) != nil {
			continue
		}
		spec.Name, spec.Scope = name, shoal.ScopeLocal
		if _, err := n.createLocked(spec); err != nil {
			return fmt.Errorf("create network %s: %w", name, err)
		}
	}
	return nil
}

func (n *Networks) ensureGwbridgeLocked() error {
	if n.localLocked(shoal.GwbridgeName) != nil {
		return nil
	}
	addrs6, err := n.hostAddrs6Locked()
	if err != nil {
		return fmt.Errorf("look for IPv6 addresses: %w", err)
	}
	_, err = n.createLocked(shoal.NetworkSpec{Name: shoal.GwbridgeName, Driver: shoal.DriverBridge, Scope: shoal.ScopeLocal, EnableIPv6: len(addrs6) > 0,
		Options: map[string]string{optionICC: "false", optionMasquerade: "true", optionBridgeName: shoal.GwbridgeName}})
	if err != nil {
		return fmt.Errorf("create network %s: %w", shoal.GwbridgeName, err)
	}
	return nil
}

func newLocalID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// createLocked completes the spec, remembers the network and returns it.
func (n *Networks) createLocked(spec shoal.NetworkSpec) (*localNetwork, error) {
	net := shoal.Network{ID: shoal.NetworkID(newLocalID()), Meta: shoal.Meta{CreatedAt: time.Now().UTC()}, Spec: spec}
	if hasAddressPool(spec.Driver) {
		subnet, err := n.subnetLocked(spec)
		if err != nil {
			return nil, err
		}
		net.IPAM = []shoal.Subnet{subnet}
		if spec.EnableIPv6 {
			if subnet, err = n.subnet6Locked(spec); err != nil {
				return nil, err
			}
			net.IPAM = append(net.IPAM, subnet)
		}
	}
	if spec.ConfigOnly {
		var err error
		if net.IPAM, err = configOnlySubnets(spec); err != nil {
			return nil, err
		}
	}
	if err := writeJSON(filepath.Join(n.localDir(), string(net.ID)+".json"), net); err != nil {
		return nil, fmt.Errorf("save network: %w", err)
	}
	return n.addLocalNetwork(net), nil
}

// subnetLocked is the first subnet that the spec asks for, completed and checked; the node's bridges have one.
func (n *Networks) subnetLocked(spec shoal.NetworkSpec) (shoal.Subnet, error) {
	var s shoal.Subnet
	for _, asked := range spec.IPAM {
		if !asked.Subnet.IsValid() || asked.Subnet.Addr().Is4() {
			s = asked
			break
		}
	}
	used := n.subnetsLocked()
	if !s.Subnet.IsValid() {
		if routes, err := n.routes(); err == nil {
			used = append(used, routes...)
		}
		var err error
		if s.Subnet, err = freeSubnet(n.cfg.AddressPools, used); err != nil {
			return s, err
		}
	} else if overlapsAny(s.Subnet, used) {
		return s, errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
	}
	return withGateway(s)
}

// subnet6Locked is the same for IPv6, whose subnets are unique local ones unless the user asks for others.
func (n *Networks) subnet6Locked(spec shoal.NetworkSpec) (shoal.Subnet, error) {
	used := n.subnetsLocked()
	for _, asked := range spec.IPAM {
		if !asked.Subnet.Addr().Is6() {
			continue
		}
		if overlapsAny(asked.Subnet, used) {
			return asked, errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
		}
		return withGateway(asked)
	}
	return withGateway(shoal.Subnet{Subnet: localSubnet6(used)})
}

// withGateway is the subnet with its gateway: the one that was asked for, or the subnet's first address.
func withGateway(s shoal.Subnet) (shoal.Subnet, error) {
	s.Subnet = s.Subnet.Masked()
	if !s.Gateway.IsValid() {
		s.Gateway = s.Subnet.Addr().Next()
	} else if !s.Subnet.Contains(s.Gateway) {
		return s, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("no matching subnet for gateway %s", s.Gateway))
	}
	return s, nil
}

func (n *Networks) subnetsLocked() []netip.Prefix {
	var out []netip.Prefix
	for _, l := range n.localNetworks {
		if l.Spec.ConfigOnly {
			continue // its subnets belong to the networks made from it
		}
		for _, s := range l.IPAM {
			out = append(out, s.Subnet)
		}
	}
	for _, net := range n.table.Networks {
		for _, s := range net.IPAM {
			if s.Subnet.IsValid() {
				out = append(out, s.Subnet)
			}
		}
	}
	return out
}

// localLocked finds a network of this node by ID, name or the beginning of an ID.
func (n *Networks) localLocked(name string) *localNetwork {
	if l := n.localNetworks[shoal.NetworkID(name)]; l != nil {
		return l
	}
	var byPrefix *localNetwork
	for id, l := range n.localNetworks {
		if l.Spec.Name == name {
			return l
		}
		if name != "" && strings.HasPrefix(string(id), name) {
			byPrefix = l
		}
	}
	return byPrefix
}

// Create makes a bridge network on this node.
func (n *Networks) Create(ctx context.Context, spec shoal.NetworkSpec) (shoal.Network, error) {
	n.mu.Lock()
	for _, l := range n.localNetworks {
		if l.Spec.Name == spec.Name {
			n.mu.Unlock()
			return shoal.Network{}, errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", spec.Name))
		}
	}
	if spec.Driver == "" {
		spec.Driver = shoal.DriverBridge
	}
	spec, err := n.resolveConfigFromLocked(spec)
	if err == nil {
		err = n.checkDriver(spec)
	}
	if err != nil {
		n.mu.Unlock()
		return shoal.Network{}, err
	}
	spec.Scope = shoal.ScopeLocal
	l, err := n.createLocked(spec)
	n.mu.Unlock()
	if err != nil {
		return shoal.Network{}, err
	}
	if err := n.converge(ctx); err != nil {
		return shoal.Network{}, fmt.Errorf("create network %s: %w", spec.Name, err)
	}
	n.publish("create", string(l.ID), spec.Name, spec.Driver, "")
	return l.Network, nil
}

// checkDriver checks the driver and what it needs.
func (n *Networks) checkDriver(spec shoal.NetworkSpec) error {
	switch {
	case spec.ConfigOnly:
		return nil
	case spec.EnableIPv6 && !n.ipv6:
		return errdefs.ErrInvalidArgument.WithMessage("the kernel of this node has no IPv6")
	}
	switch spec.Driver {
	case shoal.DriverBridge:
		return nil
	case shoal.DriverMacvlan:
		parent := spec.Options[optionMacvlanParent]
		if parent == "" {
			return errdefs.ErrInvalidArgument.WithMessage("a macvlan network needs the interface that it is on: -o parent=INTERFACE")
		}
		err := n.plane.InNode(func() error {
			_, err := netlink.LinkByName(parent)
			return err
		})
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to find parent interface %s: %v", parent, err))
		}
		return nil
	default:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", spec.Driver))
	}
}

// Remove deletes a network of this node.
func (n *Networks) Remove(ctx context.Context, name string) error {
	n.mu.Lock()
	l := n.localLocked(name)
	err := n.removableLocked(l, name)
	if err == nil {
		err = os.Remove(filepath.Join(n.localDir(), string(l.ID)+".json"))
	}
	if err == nil {
		delete(n.localNetworks, l.ID)
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	n.publish("destroy", string(l.ID), l.Spec.Name, l.Spec.Driver, "")
	return n.converge(ctx)
}

func (n *Networks) removableLocked(l *localNetwork, name string) error {
	switch {
	case l == nil:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", name))
	case slices.Contains([]string{defaultBridge, "host", "none"}, l.Spec.Name):
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("%s is a pre-defined network and cannot be removed", l.Spec.Name))
	}
	if n.dependentLocked(l) != nil {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("configuration network %q is in use", l.Spec.Name))
	}
	for _, sb := range n.sandboxes {
		for _, e := range sb.Endpoints {
			if e.Info.NetworkID == l.ID {
				return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("error while removing network: network %s has active endpoints (name:%q id:%q)", l.Spec.Name, sb.Spec.Name, e.Info.EndpointID[:12]))
			}
		}
	}
	return nil
}

// Get finds a network that this node knows: its own, or one of the cluster's that it takes part in.
func (n *Networks) Get(name string) (shoal.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.localLocked(name); l != nil {
		return l.Network, nil
	}
	if net, ok := n.overlayLocked(name); ok {
		return net, nil
	}
	return shoal.Network{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", name))
}

// List is all networks that this node knows, by name.
func (n *Networks) List() []shoal.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []shoal.Network
	for _, l := range n.localNetworks {
		out = append(out, l.Network)
	}
	for _, net := range n.table.Networks {
		out = append(out, net)
	}
	slices.SortFunc(out, func(a, b shoal.Network) int {
		return cmp.Or(strings.Compare(a.Spec.Name, b.Spec.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (n *Networks) overlayLocked(name string) (shoal.Network, bool) {
	if net, ok := n.table.Networks[shoal.NetworkID(name)]; ok {
		return net, true
	}
	for id, net := range n.table.Networks {
		if net.Spec.Name == name || name != "" && strings.HasPrefix(string(id), name) {
			return net, true
		}
	}
	return shoal.Network{}, false
}

func (n *Networks) publish(action, id, name, driver, container string) {
	if n.cfg.Events == nil {
		return
	}
	attrs := map[string]string{"name": name, "type": driver}
	if container != "" {
		attrs["container"] = container
	}
	n.cfg.Events.Publish(events.Event{Type: "network", Action: action, ID: id, Attributes: attrs})
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file as a whole.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return nil
}
