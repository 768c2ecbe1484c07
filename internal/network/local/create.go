package local

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Create checks and completes the spec of a new network and returns the network, which has no record yet: see Save. Its subnets overlap neither those of
// others nor taken, which is those of the cluster's networks. Errors have Docker's words.
func (n *Networks) Create(spec shoal.NetworkSpec, taken []netip.Prefix) (*Network, error) {
	for _, l := range n.byID {
		if l.Spec.Name == spec.Name {
			return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("network with name %s already exists", spec.Name))
		}
	}
	if spec.Driver == "" {
		spec.Driver = shoal.DriverBridge
	}
	spec, err := n.resolveConfigFrom(spec)
	if err != nil {
		return nil, err
	}
	if spec.ConfigFrom == "" && !spec.ConfigOnly {
		spec.Options = withOptions(spec.Options, n.cfg.DefaultOptions[spec.Driver])
	}
	if spec, err = withFamilies(spec); err != nil {
		return nil, err
	}
	if err := n.checkDriver(spec); err != nil {
		return nil, err
	}
	spec.Scope = shoal.ScopeLocal
	return n.create(spec, taken)
}

// withOptions adds the defaults to options that are not set.
func withOptions(options, defaults map[string]string) map[string]string {
	if len(defaults) == 0 {
		return options
	}
	out := maps.Clone(defaults)
	maps.Copy(out, options)
	return out
}

// checkDriver checks the driver and what it needs.
func (n *Networks) checkDriver(spec shoal.NetworkSpec) error {
	switch {
	case spec.ConfigOnly:
		return nil
	case spec.EnableIPv6 && !n.cfg.IPv6:
		return errdefs.ErrInvalidArgument.WithMessage("the kernel of this node has no IPv6")
	}
	if err := errors.Join(checkIPAMDriver(spec.IPAMDriver), checkFamilies(spec)); err != nil {
		return err
	}
	switch spec.Driver {
	case shoal.DriverBridge:
		if err := checkOptions(spec); err != nil {
			return err
		}
		return n.checkBridgeName(spec.Options[optionBridgeName])
	case shoal.DriverMacvlan, shoal.DriverIPvlan:
		return n.checkParent(spec)
	default:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", spec.Driver))
	}
}

// checkBridgeName refuses the name of a bridge that the kernel does not take, or that an interface of the node has already.
func (n *Networks) checkBridgeName(name string) error {
	if name == "" {
		return nil
	}
	if !shoal.ValidInterfaceName(name) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid bridge name %q: an interface's name has at most %d characters, no blanks, slashes and colons", name, shoal.MaxInterfaceName))
	}
	for _, other := range n.byID {
		if other.IsBridge() && other.Bridge() == name {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("cannot create network: conflicts with network %s (%s): networks have same bridge name", other.ID, name))
		}
	}
	if err := n.cfg.Host.CheckBridge(name); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot create network: %v", err))
	}
	return nil
}

// create completes the spec and returns the network.
func (n *Networks) create(spec shoal.NetworkSpec, taken []netip.Prefix) (*Network, error) {
	if !n.listed {
		return nil, errdefs.ErrUnavailable.WithMessage("the networks of this node cannot be read")
	}
	net := shoal.Network{ID: shoal.NetworkID(shoal.NewLocalID()), Meta: shoal.Meta{CreatedAt: time.Now().UTC()}, Spec: spec}
	if allocates(spec.Driver) {
		var err error
		if net.IPAM, err = n.subnets(spec, taken); err != nil {
			return nil, err
		}
	}
	if spec.ConfigOnly {
		var err error
		if net.IPAM, err = configOnlySubnets(spec); err != nil {
			return nil, err
		}
	}
	n.byID[net.ID] = newNetwork(net)
	return n.byID[net.ID], nil
}

// createSaved is create with a record. After an error there is no network.
func (n *Networks) createSaved(spec shoal.NetworkSpec, taken []netip.Prefix) (*Network, error) {
	l, err := n.create(spec, taken)
	if err != nil {
		return nil, err
	}
	if err := n.Save(l); err != nil {
		n.Forget(l)
		return nil, errors.Join(err, n.RemoveRecord(l))
	}
	return l, nil
}

// subnets is a subnet of each family that the network has.
func (n *Networks) subnets(spec shoal.NetworkSpec, taken []netip.Prefix) ([]shoal.Subnet, error) {
	var out []shoal.Subnet
	if spec.HasIPv4() {
		subnet, err := n.subnet(spec, taken)
		if err != nil {
			return nil, err
		}
		out = append(out, subnet)
	}
	if spec.EnableIPv6 {
		subnet, err := n.subnet6(spec, taken)
		if err != nil {
			return nil, err
		}
		out = append(out, subnet)
	}
	return out, nil
}

// subnet is the first subnet that the spec asks for, completed and checked; the node's bridges have one.
func (n *Networks) subnet(spec shoal.NetworkSpec, taken []netip.Prefix) (shoal.Subnet, error) {
	var s shoal.Subnet
	for _, asked := range spec.IPAM {
		if !asked.Subnet.IsValid() || asked.Subnet.Addr().Is4() {
			s = asked
			break
		}
	}
	used := append(n.Subnets(), taken...)
	if !s.Subnet.IsValid() {
		if routes, err := n.cfg.Host.Routes(); err == nil {
			used = append(used, routes...)
		}
		var err error
		if s.Subnet, err = ipam.FreeSubnet(n.cfg.Pools, used); err != nil {
			return s, err
		}
	} else if ipam.Overlaps(s.Subnet, used) {
		return s, errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
	}
	return withGateway(spec, s)
}

// subnet6 is the same for IPv6, whose subnets are unique local ones unless the user asks for others.
func (n *Networks) subnet6(spec shoal.NetworkSpec, taken []netip.Prefix) (shoal.Subnet, error) {
	used := append(n.Subnets(), taken...)
	for _, asked := range spec.IPAM {
		if !asked.Subnet.Addr().Is6() {
			continue
		}
		if ipam.Overlaps(asked.Subnet, used) {
			return asked, errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
		}
		return withGateway(spec, asked)
	}
	return withGateway(spec, shoal.Subnet{Subnet: ipam.UniqueLocalSubnet(used)})
}

// withGateway is the subnet with its gateway, if the network has one: the one that was asked for, or the subnet's first address.
func withGateway(spec shoal.NetworkSpec, s shoal.Subnet) (shoal.Subnet, error) {
	s.Subnet = s.Subnet.Masked()
	switch {
	case s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway):
		return s, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("no matching subnet for gateway %s", s.Gateway))
	case !s.Gateway.IsValid() && needsGateway(spec, s.Subnet.Addr().Is4()):
		s.Gateway = s.Subnet.Addr().Next()
	}
	return s, nil
}
