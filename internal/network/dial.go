package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// DialFrom opens a TCP connection from within the network namespace of a process, so that it also reaches what listens on that
// namespace's loopback addresses. The error wraps os.ErrProcessDone if there is no such process.
func DialFrom(ctx context.Context, pid int, addr netip.AddrPort) (conn net.Conn, err error) {
	own, err := netns.Current()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	ns, err := own.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of process %d: %w", pid, os.ErrProcessDone)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	// The address is numeric, so the dialer starts no goroutine that would run on a thread in another namespace.
	err = ns.Run(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		return err
	})
	return conn, err
}
