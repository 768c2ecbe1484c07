package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Connect adds an endpoint to a container that has a sandbox.
func (n *Networks) Connect(ctx context.Context, containerID string, req shoal.EndpointRequest) (shoal.EndpointInfo, error) {
	sb := n.lockSandbox(containerID, false)
	if sb == nil {
		return shoal.EndpointInfo{}, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", containerID))
	}
	defer sb.opMu.Unlock()
	n.mu.Lock()
	for _, e := range sb.Endpoints {
		if e.Info.Network == req.Network || string(e.Info.NetworkID) == req.Network {
			n.mu.Unlock()
			return shoal.EndpointInfo{}, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("endpoint with name %s already exists in network %s", sb.Spec.Name, e.Info.Network))
		}
	}
	before := len(sb.Endpoints)
	n.mu.Unlock()
	err := n.addEndpoint(ctx, sb, req)
	if err == nil && len(sb.Endpoints) == before {
		err = errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("container cannot be connected to network %s", req.Network))
	}
	if err != nil {
		return shoal.EndpointInfo{}, err
	}
	added := sb.Endpoints[before]
	err = n.addGateway(sb)
	if err == nil {
		err = errors.Join(n.openResolver(sb), n.writeFiles(sb), n.saveSandbox(sb), n.sandboxError(n.converge(ctx), namespaceOf(containerID)))
	}
	if err != nil {
		return shoal.EndpointInfo{}, errors.Join(err, n.removeEndpoint(context.WithoutCancel(ctx), sb, added))
	}
	n.publish("connect", string(added.Info.NetworkID), added.Info.Network, driverOf(added), containerID)
	return added.Info, nil
}

// Disconnect removes the container's endpoint on a network. With force it is no error if it has none.
func (n *Networks) Disconnect(ctx context.Context, containerID, network string, force bool) error {
	sb := n.lockSandbox(containerID, false)
	if sb == nil {
		if force {
			return nil
		}
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("container %s is not connected to network %s", containerID, network))
	}
	defer sb.opMu.Unlock()
	i := slices.IndexFunc(sb.Endpoints, func(e *endpoint) bool { return e.Info.Network == network || string(e.Info.NetworkID) == network })
	if i < 0 {
		if force {
			return nil
		}
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("container %s is not connected to network %s", containerID, network))
	}
	e := sb.Endpoints[i]
	if err := n.removeEndpoint(ctx, sb, e); err != nil {
		return err
	}
	n.publish("disconnect", string(e.Info.NetworkID), e.Info.Network, driverOf(e), containerID)
	return nil
}

func (n *Networks) removeEndpoint(ctx context.Context, sb *containerSandbox, e *endpoint) error {
	n.mu.Lock()
	sb.Endpoints = slices.DeleteFunc(slices.Clone(sb.Endpoints), func(x *endpoint) bool { return x == e })
	n.releaseLocked(e)
	n.mu.Unlock()
	errs := []error{n.writeFiles(sb), n.saveSandbox(sb), n.sandboxError(n.converge(ctx), namespaceOf(sb.Spec.ContainerID))}
	if e.Attachment != "" {
		errs = append(errs, n.cfg.Attacher.Detach(ctx, e.Attachment))
	}
	return errors.Join(errs...)
}

func driverOf(e *endpoint) string {
	if e.Overlay != "" {
		return shoal.DriverOverlay
	}
	if e.Parent != "" {
		return shoal.DriverMacvlan
	}
	return shoal.DriverBridge
}
