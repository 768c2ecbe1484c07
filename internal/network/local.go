package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/network/local"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Create makes a network of this node. Errors have Docker's words.
func (n *Networks) Create(ctx context.Context, spec shoal.NetworkSpec) (shoal.Network, error) {
	var l *local.Network
	err := n.locked(func() (err error) {
		l, err = n.local.Create(spec, n.directory.Subnets())
		return err
	})
	if err != nil {
		return shoal.Network{}, err
	}
	err = n.local.Save(l) // without the lock: others need not wait for the disk
	if err == nil {
		err = n.convergePart(ctx, "bridge "+l.Bridge())
	}
	if err != nil {
		err = fmt.Errorf("create network %s: %w", spec.Name, err)
		return shoal.Network{}, errors.Join(err, n.discard(context.WithoutCancel(ctx), l))
	}
	n.publish("create", string(l.ID), l.Spec.Name, l.Spec.Driver, "")
	return l.Network, nil
}

// discard takes back a network that could not be made.
func (n *Networks) discard(ctx context.Context, l *local.Network) error {
	err := n.locked(func() error {
		n.local.Forget(l)
		return nil
	})
	err = errors.Join(err, n.local.RemoveRecord(l))
	if failed := n.converge(ctx); failed != nil {
		n.logFailure(failed)
	}
	return err
}

// Remove deletes a network of this node, given its name, ID or the beginning of an ID. Errors have Docker's words.
func (n *Networks) Remove(ctx context.Context, name string) error {
	var l *local.Network
	err := n.locked(func() (err error) {
		l, err = n.local.Remove(name, n.checkUnusedLocked)
		return err
	})
	if err != nil {
		return err
	}
	if err := n.local.RemoveRecord(l); err != nil { // without the lock
		return errors.Join(fmt.Errorf("remove network %s: %w", name, err), n.locked(func() error {
			n.local.Restore(l)
			return nil
		}))
	}
	n.publish("destroy", string(l.ID), l.Spec.Name, l.Spec.Driver, "")
	return n.convergePart(ctx, dataplane.PartPrune)
}

// checkUnusedLocked returns an error if a container is on the network.
func (n *Networks) checkUnusedLocked(l *local.Network) error {
	for id, e := range n.sandboxes.On(l.ID) {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("error while removing network: network %s has active endpoints (name:%q id:%q)",
			l.Spec.Name, n.sandboxes.Get(id).Spec.Name, e.Info.EndpointID[:12]))
	}
	return nil
}

// Get finds a network that this node knows, by name, ID or the beginning of an ID: its own, or one of the cluster's that it takes part in.
func (n *Networks) Get(name string) (shoal.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.local.Find(name); l != nil {
		return l.Network, nil
	}
	if net, ok := n.directory.Find(name); ok {
		return net, nil
	}
	return shoal.Network{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", name))
}

// List is all networks that this node knows, by name.
func (n *Networks) List() []shoal.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []shoal.Network
	for _, l := range n.local.All() {
		out = append(out, l.Network)
	}
	for _, net := range n.directory.Table().Networks {
		out = append(out, net)
	}
	slices.SortFunc(out, func(a, b shoal.Network) int {
		return cmp.Or(strings.Compare(a.Spec.Name, b.Spec.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
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
	for id, e := range n.sandboxes.On(networkID) {
		out[id] = Endpoint{Container: n.sandboxes.Get(id).Spec.Name, Info: e.Info}
	}
	return out
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
