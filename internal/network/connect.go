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
	b := n.lockBox(containerID, false)
	if b == nil {
		return shoal.EndpointInfo{}, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", containerID))
	}
	defer b.op.Unlock()
	n.mu.Lock()
	for _, e := range b.Endpoints {
		if e.Info.Network == req.Network || string(e.Info.NetworkID) == req.Network {
			n.mu.Unlock()
			return shoal.EndpointInfo{}, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("endpoint with name %s already exists in network %s", b.Spec.Name, e.Info.Network))
		}
	}
	before := len(b.Endpoints)
	n.mu.Unlock()
	err := n.addEndpoint(ctx, b, req)
	if err == nil && len(b.Endpoints) == before {
		err = errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("container cannot be connected to network %s", req.Network))
	}
	if err != nil {
		return shoal.EndpointInfo{}, err
	}
	added := b.Endpoints[before]
	err = n.addGateway(b)
	if err == nil {
		err = errors.Join(n.openResolver(b), n.writeFiles(b), n.save(b), n.failureOf(n.converge(ctx), namespaceOf(containerID)))
	}
	if err != nil {
		return shoal.EndpointInfo{}, errors.Join(err, n.removeEndpoint(context.WithoutCancel(ctx), b, added))
	}
	n.publish("connect", string(added.Info.NetworkID), added.Info.Network, driverOf(added), containerID)
	return added.Info, nil
}

// Disconnect removes the container's endpoint on a network. With force it is no error if it has none.
func (n *Networks) Disconnect(ctx context.Context, containerID, network string, force bool) error {
	b := n.lockBox(containerID, false)
	if b == nil {
		if force {
			return nil
		}
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("container %s is not connected to network %s", containerID, network))
	}
	defer b.op.Unlock()
	i := slices.IndexFunc(b.Endpoints, func(e *endpoint) bool { return e.Info.Network == network || string(e.Info.NetworkID) == network })
	if i < 0 {
		if force {
			return nil
		}
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("container %s is not connected to network %s", containerID, network))
	}
	e := b.Endpoints[i]
	if err := n.removeEndpoint(ctx, b, e); err != nil {
		return err
	}
	n.publish("disconnect", string(e.Info.NetworkID), e.Info.Network, driverOf(e), containerID)
	return nil
}

func (n *Networks) removeEndpoint(ctx context.Context, b *box, e *endpoint) error {
	n.mu.Lock()
	b.Endpoints = slices.DeleteFunc(slices.Clone(b.Endpoints), func(x *endpoint) bool { return x == e })
	n.releaseLocked(e)
	n.mu.Unlock()
	errs := []error{n.writeFiles(b), n.save(b), n.failureOf(n.converge(ctx), namespaceOf(b.Spec.ContainerID))}
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
