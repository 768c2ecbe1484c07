package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	echoTries = 3
	echoLimit = 300 * time.Millisecond // for each of them
)

// Call calls a node: see Config.Called. inNode runs a function in the node's namespace.
func Call(inNode func(func() error) error, to netip.AddrPort) error {
	return inNode(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		_, err = conn.Write(packet(call))
		return errors.Join(err, conn.Close())
	})
}

// Echo asks a peer once in a packet of size bytes, headers included, that must not be fragmented. It returns how long the answer took, or an
// error if none of a few attempts is answered. inNode runs a function in the node's namespace.
func Echo(ctx context.Context, inNode func(func() error) error, to netip.AddrPort, size int) (time.Duration, error) {
	var conn net.Conn
	err := inNode(func() (err error) {
		dialer := net.Dialer{Control: dontFragment}
		conn, err = dialer.DialContext(ctx, "udp", to.String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	const headers = 28 // IPv4 and UDP
	asked := append(packet(question), make([]byte, size-headers-len(packet(question)))...)
	buf := make([]byte, 64)
	for range echoTries {
		began := time.Now()
		if err = conn.SetDeadline(began.Add(echoLimit)); err != nil {
			return 0, err
		}
		if _, err = conn.Write(asked); err != nil {
			continue
		}
		if _, err = conn.Read(buf); err == nil {
			return time.Since(began), nil
		}
	}
	return 0, err
}

// dontFragment sets the Don't Fragment bit on a socket's packets, whatever path MTU the kernel has found.
func dontFragment(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE) // #nosec G115 -- a file descriptor
	})
	return errors.Join(err, failed)
}
