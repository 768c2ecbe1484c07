package ports

import (
	"errors"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// bind returns a socket that is bound to the port. If the kernel chose the port, key has it afterwards.
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
