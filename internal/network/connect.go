package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Connect adds an endpoint to a container that has a sandbox. Errors have Docker's words.
func (n *Networks) Connect(ctx context.Context, containerID string, req shoal.EndpointRequest) (shoal.EndpointInfo, error) {
	sb := n.lockSandbox(containerID, false)
	if sb == nil {
		return shoal.EndpointInfo{}, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", containerID))
	}
	defer sb.Unlock()
	n.mu.Lock()
	for _, e := range sb.Endpoints {
		if e.IsOn(req.Network) {
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
	err = n.addGatewayBridge(sb)
	if err == nil {
		err = errors.Join(n.openResolver(sb), n.writeFiles(sb), n.saveSandbox(sb), n.convergeSandbox(ctx, sb.Namespace()))
	}
	if err != nil {
		return shoal.EndpointInfo{}, errors.Join(err, n.removeEndpoint(context.WithoutCancel(ctx), sb, added))
	}
	n.publish("connect", string(added.Info.NetworkID), added.Info.Network, added.Driver(), containerID)
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
	defer sb.Unlock()
	i := slices.IndexFunc(sb.Endpoints, func(e *sandbox.Endpoint) bool { return e.IsOn(network) })
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
	n.publish("disconnect", string(e.Info.NetworkID), e.Info.Network, e.Driver(), containerID)
	return nil
}

// removeEndpoint takes an endpoint from a sandbox, which is locked, and from the kernel.
func (n *Networks) removeEndpoint(ctx context.Context, sb *sandbox.Sandbox, e *sandbox.Endpoint) error {
	func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		sb.Endpoints = slices.DeleteFunc(slices.Clone(sb.Endpoints), func(x *sandbox.Endpoint) bool { return x == e })
		n.releaseLocked(e)
	}()
	return errors.Join(n.writeFiles(sb), n.saveSandbox(sb), n.convergeSandbox(ctx, sb.Namespace()), n.detach(ctx, e))
}
