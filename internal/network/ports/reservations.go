// Package ports reserves published ports on the node, so that no other process can take them. It reads what is to be published and binds
// sockets in the node's namespace that never listen: connections that no rule of the data plane matches are refused.
package ports

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Reservations are the ports that are reserved. They are guarded by their owner.
type Reservations struct {
	log    *slog.Logger
	inNode func(func() error) error // runs a function in the node's namespace
	byPort map[portKey]reservation
	mesh   dataplane.MeshPorts // what the routing mesh's reservations are for
}

// portKey is a port of the node that is taken.
type portKey struct {
	Protocol shoal.Protocol
	Addr     netip.Addr
	Port     uint16 // 0 for one of the kernel's choice
}

// reservation is a bound socket that does not listen.
type reservation struct {
	fd    int
	owner string // a container's ID, or meshOwner
}

const meshOwner = "the routing mesh"

// New reserves nothing yet. inNode runs a function in the node's namespace.
func New(log *slog.Logger, inNode func(func() error) error) *Reservations {
	return &Reservations{log: log, inNode: inNode, byPort: map[portKey]reservation{}}
}

// Reserve reserves the port that a container publishes: the first that is free of a range, one of the kernel's choice for HostPort 0. It
// returns the binding with that port, no range and a valid HostIP. Errors have Docker's words.
func (r *Reservations) Reserve(want shoal.PortBinding, owner string) (shoal.PortBinding, error) {
	if !want.HostIP.IsValid() {
		want.HostIP = netip.IPv4Unspecified()
	}
	last := max(want.HostPort, want.HostPortEnd)
	for port := want.HostPort; ; port++ {
		bound, err := r.reserve(portKey{want.Protocol, want.HostIP, port}, owner)
		if err == nil {
			want.HostPort, want.HostPortEnd = bound, 0
			return want, nil
		}
		if port >= last {
			return want, err
		}
	}
}

// Release gives back what the owner has reserved.
func (r *Reservations) Release(owner string) {
	for k, one := range r.byPort {
		if one.owner == owner {
			r.release(k)
		}
	}
}

// SetMesh reserves the routing mesh's published ports and releases those no longer published. A port that another process of the node uses
// is published all the same: the rules apply before the socket.
func (r *Reservations) SetMesh(published dataplane.MeshPorts) {
	for _, c := range pmap.Changes(r.mesh, published) {
		k := portKey{c.Key.Protocol, netip.IPv4Unspecified(), c.Key.Port}
		one, reserved := r.byPort[k]
		if !c.Has && reserved && one.owner == meshOwner {
			r.release(k)
			reserved = false
		}
		if c.Had || reserved {
			continue
		}
		if _, err := r.reserve(k, meshOwner); err != nil {
			r.log.Warn("port of the routing mesh is in use on this node", "port", k.Port, "protocol", k.Protocol, "err", err)
		}
	}
	r.mesh = published
}

// Close gives back everything.
func (r *Reservations) Close() {
	for k := range r.byPort {
		r.release(k)
	}
}

func (r *Reservations) release(k portKey) {
	_ = unix.Close(r.byPort[k].fd)
	delete(r.byPort, k)
}

// reserve binds the port and returns its number.
func (r *Reservations) reserve(key portKey, owner string) (uint16, error) {
	for k := range r.byPort {
		if key.Port != 0 && k.Protocol == key.Protocol && k.Port == key.Port && k.Addr.Is4() == key.Addr.Is4() &&
			(k.Addr == key.Addr || k.Addr.IsUnspecified() || key.Addr.IsUnspecified()) {
			return 0, errdefs.ErrUnknown.WithMessage(fmt.Sprintf("Bind for %s:%d failed: port is already allocated", key.Addr, key.Port)) // Docker's wording
		}
	}
	fd := -1
	err := r.inNode(func() (err error) {
		fd, err = bind(&key)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("failed to bind host port for %s:%d/%s: %w", key.Addr, key.Port, key.Protocol, err)
	}
	r.byPort[key] = reservation{fd: fd, owner: owner}
	return key.Port, nil
}
