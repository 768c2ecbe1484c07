package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// networkWaitTimeout bounds how long Up waits for a network that the manager has promised.
const networkWaitTimeout = 15 * time.Second

// containerSandbox is a container's sandbox. Its exported fields are the record sandbox.json: renaming one breaks running containers.
type containerSandbox struct {
	Spec      shoal.SandboxSpec
	Endpoints []*endpoint
	Ports     []shoal.PortBinding // as bound

	opMu     sync.Mutex // held for the length of an Up, Down, Connect or Disconnect; guards deleted
	deleted  bool
	resolver *dns.Resolver // guarded by Networks.mu, as the exported fields and active are
	active   bool          // the data plane's config includes it
}

// endpoint is an interface of a sandbox, saved with it. One of Bridge (a bridge's name), Overlay (a network's ID) and Parent (an interface of the node,
// for macvlan) is set, or none for the one that carries the ingress address.
type endpoint struct {
	Info    shoal.EndpointInfo
	Bridge  string
	Overlay string
	Parent  string
	// Network is the overlay's definition, by which it stays up as long as it has the endpoint.
	Network *shoal.Network
	// Attachment is the task that stands for a plain container on a cluster network.
	Attachment shoal.TaskID
	Aliases    []string // as asked for
}

func (e *endpoint) onGatewayBridge() bool { return e.Info.Network == shoal.GwbridgeName }

func namespaceOf(containerID string) string {
	if len(containerID) > 12 {
		return containerID[:12]
	}
	return containerID
}

// lockSandbox returns the container's sandbox with opMu locked. If there is none it returns a new one if create is set, else nil.
func (n *Networks) lockSandbox(containerID string, create bool) *containerSandbox {
	for {
		n.mu.Lock()
		sb := n.sandboxes[containerID]
		if sb == nil && create {
			sb = &containerSandbox{}
			sb.Spec.ContainerID = containerID
			n.sandboxes[containerID] = sb
		}
		n.mu.Unlock()
		if sb == nil {
			return nil
		}
		sb.opMu.Lock()
		if !sb.deleted {
			return sb
		}
		sb.opMu.Unlock()
	}
}

// Up gives the container its sandbox. If it has one, that is returned as it is. It may wait for the table that has the
// sandbox's cluster networks.
func (n *Networks) Up(ctx context.Context, spec shoal.SandboxSpec) (shoal.Sandbox, error) {
	if spec.Mode == "host" {
		return n.hostSandbox(spec)
	}
	if other, ok := strings.CutPrefix(spec.Mode, "container:"); ok {
		return n.SandboxOf(other)
	}
	sb := n.lockSandbox(spec.ContainerID, true)
	defer sb.opMu.Unlock()
	if n.plane.Exists(namespaceOf(spec.ContainerID)) && sb.Spec.Mode != "" {
		if err := n.sandboxError(n.converge(ctx), namespaceOf(spec.ContainerID)); err != nil {
			return shoal.Sandbox{}, err
		}
		return n.SandboxOf(spec.ContainerID)
	}
	if err := n.createSandbox(ctx, sb, spec); err != nil {
		return shoal.Sandbox{}, errors.Join(err, n.deleteSandbox(context.WithoutCancel(ctx), sb))
	}
	return n.SandboxOf(spec.ContainerID)
}

func (n *Networks) createSandbox(ctx context.Context, sb *containerSandbox, spec shoal.SandboxSpec) error {
	if spec.Mode == "" || spec.Mode == "default" {
		spec.Mode = defaultBridge
	}
	n.mu.Lock()
	sb.Spec = spec
	n.mu.Unlock()
	if _, err := n.plane.Namespace(namespaceOf(spec.ContainerID)); err != nil {
		return err
	}
	for _, req := range requestedEndpoints(spec) {
		if err := n.addEndpoint(ctx, sb, req); err != nil {
			return err
		}
	}
	if err := n.addGateway(sb); err != nil {
		return err
	}
	if spec.IngressAddr.IsValid() {
		n.addIngress(sb)
	}
	if err := n.bindPorts(sb); err != nil {
		return err
	}
	if err := n.openResolver(sb); err != nil {
		return err
	}
	if err := n.writeFiles(sb); err != nil {
		return err
	}
	if err := n.saveSandbox(sb); err != nil {
		return err
	}
	n.mu.Lock()
	sb.active = true
	n.mu.Unlock()
	return n.sandboxError(n.converge(ctx), namespaceOf(spec.ContainerID))
}

func requestedEndpoints(spec shoal.SandboxSpec) []shoal.EndpointRequest {
	switch {
	case spec.Mode == "none":
		return nil
	case spec.Mode != defaultBridge || len(spec.Endpoints) > 0 || spec.IngressAddr.IsValid():
		return spec.Endpoints
	default:
		return []shoal.EndpointRequest{{Network: defaultBridge}}
	}
}

// addEndpoint adds an endpoint to the sandbox; the kernel gets it with the next converge.
func (n *Networks) addEndpoint(ctx context.Context, sb *containerSandbox, req shoal.EndpointRequest) error {
	if err := req.MAC.Err(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.localLocked(req.Network); l != nil {
		if l.Spec.ConfigOnly {
			return errdefs.ErrPermissionDenied.WithMessage("cannot create endpoint on configuration-only network")
		}
		if l.pool == nil {
			return nil // none and host have no endpoints
		}
		return n.addLocalLocked(sb, l, req)
	}
	return n.addOverlayLocked(ctx, sb, req)
}

func (n *Networks) addLocalLocked(sb *containerSandbox, l *localNetwork, req shoal.EndpointRequest) error {
	addr, err := l.pool.take(req.Addr, time.Now())
	if err != nil {
		return err
	}
	var addr6 netip.Prefix
	if l.pool6 != nil {
		a, err := l.pool6.take(req.Addr6, time.Now())
		if err != nil {
			l.pool.release(addr, time.Now())
			return err
		}
		addr6 = netip.PrefixFrom(a, l.gateway6().Bits())
	}
	e := n.newEndpoint(sb, l.Network, netip.PrefixFrom(addr, l.gateway().Bits()), addr6, req)
	if l.Spec.Driver == shoal.DriverMacvlan {
		e.Parent = l.Spec.Options[optionMacvlanParent]
	} else {
		e.Bridge = l.bridge()
	}
	if !l.Spec.Internal {
		e.Info.Gateway, e.Info.Gateway6 = l.gateway().Addr(), l.gateway6().Addr()
	}
	sb.Endpoints = append(sb.Endpoints, e)
	return nil
}

// addOverlayLocked unlocks n.mu while it waits for the network.
func (n *Networks) addOverlayLocked(ctx context.Context, sb *containerSandbox, req shoal.EndpointRequest) error {
	var attachment shoal.TaskID
	if sb.Spec.TaskID == "" {
		if n.cfg.Attacher == nil || n.table.NodeID == "" {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", req.Network))
		}
		granted, id, err := n.attachLocked(ctx, sb, req)
		if err != nil {
			return fmt.Errorf("Could not attach to network %s: %w", req.Network, err) //nolint:staticcheck // Docker's wording
		}
		attachment, req.Network = id, string(granted.NetworkID)
		addr, addr6 := granted.Prefixes()
		req.Addr, req.Addr6 = addr.Addr(), addr6.Addr()
	}
	net, err := n.waitForNetworkLocked(ctx, req.Network)
	if err == nil && (!req.Addr.IsValid() || len(net.IPAM) == 0) {
		err = errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("network %s has no address for the container", net.Spec.Name))
	}
	if err != nil {
		if attachment != "" {
			n.mu.Unlock()
			err = errors.Join(err, n.cfg.Attacher.Detach(context.WithoutCancel(ctx), attachment))
			n.mu.Lock()
		}
		return err
	}
	e := n.newEndpoint(sb, net, prefixIn(net, req.Addr), prefixIn(net, req.Addr6), req)
	e.Overlay, e.Network, e.Attachment = string(net.ID), &net, attachment
	sb.Endpoints = append(sb.Endpoints, e)
	return nil
}

func (n *Networks) attachLocked(ctx context.Context, sb *containerSandbox, req shoal.EndpointRequest) (shoal.TaskNetwork, shoal.TaskID, error) {
	// Names are resolved on other nodes by what the attachment is called there.
	aliases := append(slices.Clone(req.Aliases), sb.Spec.Name)
	n.mu.Unlock()
	defer n.mu.Lock()
	granted, id, err := n.cfg.Attacher.Attach(ctx, req.Network, sb.Spec.ContainerID, req.Addr, aliases)
	if err == nil && len(granted.Addresses) == 0 {
		err = errors.Join(errdefs.ErrUnavailable.WithMessage("no address was given"), n.cfg.Attacher.Detach(context.WithoutCancel(ctx), id))
	}
	return granted, id, err
}

func (n *Networks) waitForNetworkLocked(ctx context.Context, name string) (shoal.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, networkWaitTimeout)
	defer cancel()
	for {
		if net, ok := n.overlayLocked(name); ok {
			return net, nil
		}
		tableChanged := n.tableChanged
		n.mu.Unlock()
		select {
		case <-tableChanged:
			n.mu.Lock()
		case <-ctx.Done():
			n.mu.Lock()
			return shoal.Network{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", name))
		}
	}
}

func (n *Networks) newEndpoint(sb *containerSandbox, net shoal.Network, addr, addr6 netip.Prefix, req shoal.EndpointRequest) *endpoint {
	e := &endpoint{Aliases: req.Aliases, Info: shoal.EndpointInfo{Network: net.Spec.Name, NetworkID: net.ID, EndpointID: newLocalID(),
		Interface: sb.freeInterface(), Addr: addr, Addr6: addr6, MAC: cmp.Or(req.MAC, shoal.MACFor(addr.Addr())), Aliases: req.Aliases, DriverOpts: req.DriverOpts}}
	if net.Spec.Name != defaultBridge {
		e.Info.DNSNames = dnsNames(sb.Spec, req.Aliases)
	}
	return e
}

func (sb *containerSandbox) freeInterface() string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(sb.Endpoints, func(e *endpoint) bool { return e.Info.Interface == name }) {
			return name
		}
	}
}

func dnsNames(spec shoal.SandboxSpec, aliases []string) []string {
	var names []string
	for _, name := range append(append([]string{spec.Name}, aliases...), namespaceOf(spec.ContainerID), spec.Hostname) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// addGateway connects a sandbox with cluster networks to docker_gwbridge, as overlays have no default route.
func (n *Networks) addGateway(sb *containerSandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	need := sb.Spec.IngressAddr.IsValid()
	for _, e := range sb.Endpoints {
		if e.onGatewayBridge() {
			return nil
		}
		need = need || e.Network != nil && !e.Network.Spec.Internal
	}
	if !need {
		return nil
	}
	if err := n.ensureGwbridgeLocked(); err != nil {
		return err
	}
	return n.addLocalLocked(sb, n.localLocked(shoal.GwbridgeName), shoal.EndpointRequest{})
}

// addIngress makes the task carry its address on the routing mesh. Traffic reaches it by the gateway bridge.
func (n *Networks) addIngress(sb *containerSandbox) {
	n.mu.Lock()
	defer n.mu.Unlock()
	net := shoal.Network{Spec: shoal.NetworkSpec{Name: shoal.IngressName}}
	if known, ok := n.table.Networks[n.ingressNetworkID]; ok {
		net = known
	}
	sb.Endpoints = append(sb.Endpoints, n.newEndpoint(sb, net, sb.Spec.IngressAddr, sb.Spec.IngressAddr6, shoal.EndpointRequest{}))
}

// openResolver starts the embedded resolver in the sandbox, if it uses one.
func (n *Networks) openResolver(sb *containerSandbox) error {
	n.mu.Lock()
	need := sb.resolver == nil && usesEmbeddedResolver(sb.Endpoints)
	n.mu.Unlock()
	if !need {
		return nil
	}
	ns := namespaceOf(sb.Spec.ContainerID)
	r, err := dns.Open(dns.Config{Log: n.log, Forwarder: n.forwarder, Enter: func(f func() error) error { return n.plane.Inside(ns, f) }})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sb.resolver = r
	return nil
}

// Down takes the container's sandbox away. It is no error if there is none.
func (n *Networks) Down(ctx context.Context, containerID string) error {
	sb := n.lockSandbox(containerID, false)
	if sb == nil {
		if err := os.RemoveAll(n.fileDir(containerID)); err != nil {
			return fmt.Errorf("remove network files: %w", err)
		}
		return nil
	}
	defer sb.opMu.Unlock()
	return n.deleteSandbox(ctx, sb)
}

func (n *Networks) deleteSandbox(ctx context.Context, sb *containerSandbox) error {
	id := sb.Spec.ContainerID
	var errs []error
	n.mu.Lock()
	sb.deleted = true
	delete(n.sandboxes, id)
	n.records.set("sandbox "+id, nil)
	n.releasePortsLocked(sb)
	resolver, endpoints := sb.resolver, sb.Endpoints
	sb.resolver, sb.Endpoints = nil, nil
	for _, e := range endpoints {
		n.releaseLocked(e)
	}
	n.mu.Unlock()
	if resolver != nil {
		errs = append(errs, resolver.Close())
	}
	for _, e := range endpoints {
		if e.Attachment != "" {
			errs = append(errs, n.cfg.Attacher.Detach(ctx, e.Attachment))
		}
	}
	n.plane.Release(namespaceOf(id))
	errs = append(errs, os.RemoveAll(n.fileDir(id)), n.sandboxError(n.converge(ctx), namespaceOf(id)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take down sandbox of %s: %w", namespaceOf(id), err)
	}
	return nil
}

func (n *Networks) releaseLocked(e *endpoint) {
	if l := n.localNetworks[e.Info.NetworkID]; l != nil && l.pool != nil {
		l.pool.release(e.Info.Addr.Addr(), time.Now())
		if l.pool6 != nil && e.Info.Addr6.IsValid() {
			l.pool6.release(e.Info.Addr6.Addr(), time.Now())
		}
	}
}

// SandboxOf returns the container's sandbox, ErrNotFound if it has none.
func (n *Networks) SandboxOf(containerID string) (shoal.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb := n.sandboxes[containerID]
	if sb == nil {
		return shoal.Sandbox{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no sandbox", containerID))
	}
	s := shoal.Sandbox{Netns: filepath.Join(n.cfg.ExecRoot, "netns", namespaceOf(containerID)), Ports: slices.Clone(sb.Ports)}
	for _, e := range sb.Endpoints {
		if !e.onGatewayBridge() {
			s.Endpoints = append(s.Endpoints, e.Info)
		}
	}
	n.setFilePaths(&s, containerID)
	return s, nil
}

// Endpoint is a container on a network, as `docker network inspect` lists it.
type Endpoint struct {
	Container string // its name
	Info      shoal.EndpointInfo
}

// ContainersOn is the containers of this node on the network, by container ID.
func (n *Networks) ContainersOn(networkID shoal.NetworkID) map[string]Endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]Endpoint{}
	for id, sb := range n.sandboxes {
		for _, e := range sb.Endpoints {
			if e.Info.NetworkID == networkID {
				out[id] = Endpoint{Container: sb.Spec.Name, Info: e.Info}
			}
		}
	}
	return out
}
