package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/network/local"
	"github.com/shoal-dev/shoal/internal/network/plan"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// networkWaitTimeout bounds how long Up waits for a network that the manager has promised.
const networkWaitTimeout = 15 * time.Second

// addEndpoint adds an endpoint to the sandbox; the kernel gets it with the next converge.
func (n *Networks) addEndpoint(ctx context.Context, sb *sandbox.Sandbox, req shoal.EndpointRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if name := req.DriverOpts[shoal.OptionInterfaceName]; sb.Endpoints.HasInterface(name) {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("the container has an interface %s already", name))
	}
	l := n.local.Find(req.Network)
	switch {
	case l == nil:
		return n.addOverlayLocked(ctx, sb, req)
	case l.Spec.ConfigOnly:
		return errdefs.ErrPermissionDenied.WithMessage("cannot create endpoint on configuration-only network")
	case !l.HasEndpoints():
		return nil
	}
	return addLocal(sb, l, req)
}

// addLocal adds an endpoint on a network of this node.
func addLocal(sb *sandbox.Sandbox, l *local.Network, req shoal.EndpointRequest) error {
	ipvlan := l.IPvlan()
	if ipvlan != nil && !req.MAC.IsZero() {
		return errdefs.ErrInvalidArgument.WithMessage("ipvlan interfaces do not support custom mac address assignment")
	}
	addr, addr6, err := l.Take(req.Addr, req.Addr6)
	if err != nil {
		return err
	}
	e := sb.NewEndpoint(l.Network, addr, addr6, req)
	if e.Parent = l.Parent(); e.Parent == "" {
		e.Bridge = l.Bridge()
	}
	if e.IPvlan, e.DefaultDevice = ipvlan, l.RoutesByDevice(); ipvlan != nil {
		e.Info.MAC = shoal.MAC{} // it has that of the parent
	}
	if !l.Spec.Internal {
		e.Info.Gateway, e.Info.Gateway6 = l.Gateway().Addr(), l.Gateway6().Addr()
	}
	sb.Endpoints = append(sb.Endpoints, e)
	return nil
}

// addOverlayLocked unlocks n.mu while it waits for the network.
func (n *Networks) addOverlayLocked(ctx context.Context, sb *sandbox.Sandbox, req shoal.EndpointRequest) error {
	var attachment shoal.TaskID
	if sb.Spec.TaskID == "" {
		if n.cfg.Attacher == nil || n.directory.Table().NodeID == "" {
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
	e := sb.NewEndpoint(net, plan.PrefixIn(net, req.Addr), plan.PrefixIn(net, req.Addr6), req)
	e.Overlay, e.Network, e.Attachment = string(net.ID), &net, attachment
	sb.Endpoints = append(sb.Endpoints, e)
	return nil
}

// attachLocked asks a manager for an endpoint. It unlocks n.mu meanwhile.
func (n *Networks) attachLocked(ctx context.Context, sb *sandbox.Sandbox, req shoal.EndpointRequest) (shoal.TaskNetwork, shoal.TaskID, error) {
	// Names are resolved on other nodes by what the attachment is called there.
	aliases := append(slices.Clone(req.Aliases), sb.Spec.Name, sb.Spec.Hostname)
	n.mu.Unlock()
	defer n.mu.Lock()
	granted, id, err := n.cfg.Attacher.Attach(ctx, req.Network, sb.Spec.ContainerID, req.Addr, aliases)
	if err == nil && len(granted.Addresses) == 0 {
		err = errors.Join(errdefs.ErrUnavailable.WithMessage("no address was given"), n.cfg.Attacher.Detach(context.WithoutCancel(ctx), id))
	}
	return granted, id, err
}

// detach gives an endpoint back to the managers, if they gave it.
func (n *Networks) detach(ctx context.Context, e *sandbox.Endpoint) error {
	if e.Attachment == "" {
		return nil
	}
	return n.cfg.Attacher.Detach(ctx, e.Attachment)
}

// waitForNetworkLocked waits for the table that has the network. It unlocks n.mu meanwhile.
func (n *Networks) waitForNetworkLocked(ctx context.Context, name string) (shoal.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, networkWaitTimeout)
	defer cancel()
	for {
		if net, ok := n.directory.Find(name); ok {
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

// addGatewayBridge connects a sandbox that needs it to docker_gwbridge, through which its default route leads.
func (n *Networks) addGatewayBridge(sb *sandbox.Sandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.ContainsFunc(sb.Endpoints, (*sandbox.Endpoint).OnGatewayBridge) || !sb.Spec.IngressAddr.IsValid() && !sb.Endpoints.NeedGatewayBridge() {
		return nil
	}
	l, err := n.local.EnsureGatewayBridge(n.directory.Subnets())
	if err != nil {
		return err
	}
	return addLocal(sb, l, shoal.EndpointRequest{})
}

// addIngress makes the task carry its address on the routing mesh. Traffic reaches it by the gateway bridge.
func (n *Networks) addIngress(sb *sandbox.Sandbox) {
	n.mu.Lock()
	defer n.mu.Unlock()
	net, ok := n.directory.Ingress()
	if !ok {
		net.Spec.Name = shoal.IngressName
	}
	sb.Endpoints = append(sb.Endpoints, sb.NewEndpoint(net, sb.Spec.IngressAddr, sb.Spec.IngressAddr6, shoal.EndpointRequest{}))
}

// releaseLocked frees the addresses of an endpoint on a network of this node.
func (n *Networks) releaseLocked(e *sandbox.Endpoint) {
	if l := n.local.Get(e.Info.NetworkID); l != nil {
		l.Release(e.Info.Addr, e.Info.Addr6)
	}
}
