package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// portKey is a port of the node that is taken.
type portKey struct {
	Protocol shoal.Protocol
	Addr     netip.Addr
	Port     uint16
}

// portReservation keeps other processes from using a port: its socket is bound but never listens, so that connections that no rule
// matches are refused.
type portReservation struct {
	fd    int
	owner string // a container's ID, or ingressOwner
}

const ingressOwner = "the routing mesh"

func (h *portReservation) close() { _ = unix.Close(h.fd) }

// bindPorts reserves the node's ports that the sandbox publishes.
func (n *Networks) bindPorts(sb *containerSandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb.Ports = nil
	for _, want := range sb.Spec.Ports {
		bound, err := n.bindLocked(want, sb.Spec.ContainerID)
		if err != nil {
			name := ""
			for _, e := range sb.Endpoints {
				if e.Bridge != "" {
					name = e.Info.EndpointID
				}
			}
			return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", sb.Spec.Name, name, err)
		}
		sb.Ports = append(sb.Ports, bound)
	}
	return nil
}

func (n *Networks) bindLocked(want shoal.PortBinding, owner string) (shoal.PortBinding, error) {
	addr := want.HostIP
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	want.HostIP = addr
	last := max(want.HostPort, want.HostPortEnd)
	var err error
	for port := want.HostPort; ; port++ {
		var bound uint16
		if bound, err = n.reservePortLocked(portKey{want.Protocol, addr, port}, owner); err == nil {
			want.HostPort, want.HostPortEnd = bound, 0
			return want, nil
		}
		if port >= last {
			return want, err
		}
	}
}

// reservePortLocked binds the port and returns its number; port 0 leaves the choice to the kernel.
func (n *Networks) reservePortLocked(key portKey, owner string) (uint16, error) {
	for k := range n.reservations {
		if key.Port != 0 && k.Protocol == key.Protocol && k.Port == key.Port && k.Addr.Is4() == key.Addr.Is4() &&
			(k.Addr == key.Addr || k.Addr.IsUnspecified() || key.Addr.IsUnspecified()) {
			return 0, errdefs.ErrUnknown.WithMessage(fmt.Sprintf("Bind for %s:%d failed: port is already allocated", key.Addr, key.Port)) // Docker's wording
		}
	}
	fd := -1
	err := n.plane.InNode(func() (err error) {
		fd, err = bind(&key)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("failed to bind host port for %s:%d/%s: %w", key.Addr, key.Port, key.Protocol, err)
	}
	n.reservations[key] = &portReservation{fd: fd, owner: owner}
	return key.Port, nil
}

func bind(key *portKey) (int, error) {
	kind, proto := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch key.Protocol {
	case shoal.TCP:
	case shoal.UDP:
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case shoal.SCTP:
		proto = unix.IPPROTO_SCTP
	}
	family, at := unix.AF_INET, unix.Sockaddr(nil)
	if key.Addr.Is4() {
		at = &unix.SockaddrInet4{Addr: key.Addr.As4(), Port: int(key.Port)}
	} else {
		family, at = unix.AF_INET6, &unix.SockaddrInet6{Addr: key.Addr.As16(), Port: int(key.Port)}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err := errors.Join(err, unix.Bind(fd, at)); err != nil {
		return -1, errors.Join(bindError(err), unix.Close(fd))
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	switch bound := name.(type) {
	case *unix.SockaddrInet4:
		key.Port = uint16(bound.Port)
	case *unix.SockaddrInet6:
		key.Port = uint16(bound.Port)
	}
	return fd, nil
}

// bindError gives "address already in use" the kind for which Docker answers with status 500.
func bindError(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return errdefs.ErrUnknown.WithMessage(err.Error())
	}
	return err
}

func (n *Networks) releasePortsLocked(sb *containerSandbox) {
	for k, h := range n.reservations {
		if h.owner == sb.Spec.ContainerID {
			h.close()
			delete(n.reservations, k)
		}
	}
	sb.Ports = nil
}

// reserveMeshPortsLocked reserves the mesh's published ports and releases those no longer published. A port that another process of
// the node uses is published all the same: the rules apply before the socket.
func (n *Networks) reserveMeshPortsLocked() {
	for _, c := range pmap.Changes(n.reservedMeshPorts, n.ports) {
		k := portKey{c.Key.Protocol, netip.IPv4Unspecified(), c.Key.Port}
		if h := n.reservations[k]; !c.Has && h != nil && h.owner == ingressOwner {
			h.close()
			delete(n.reservations, k)
		}
		if c.Had || n.reservations[k] != nil {
			continue
		}
		if _, err := n.reservePortLocked(k, ingressOwner); err != nil {
			n.log.Warn("port of the routing mesh is in use on this node", "port", k.Port, "protocol", k.Protocol, "err", err)
		}
	}
	n.reservedMeshPorts = n.ports
}
