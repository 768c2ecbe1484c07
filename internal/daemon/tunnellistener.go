package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// tunnelListener is a net.Listener for the API's connections that managers open through the node's agent (docs/tunnel.md).
type tunnelListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newTunnelListener() *tunnelListener {
	l := &tunnelListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l *tunnelListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *tunnelListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *tunnelListener) Addr() net.Addr {
	return &net.UnixAddr{Name: "tunnels of managers", Net: "unix"}
}

// Dial makes a connection and hands its other end to Accept. The error is net.ErrClosed after Close.
func (l *tunnelListener) Dial(ctx context.Context) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "tunnel") // #nosec G115 -- a file descriptor
		ends[i], err = net.FileConn(file)
		_ = file.Close() // FileConn has a copy
		if err != nil {
			return nil, fmt.Errorf("open socket pair: %w", err)
		}
	}
	select {
	case l.conns <- ends[0]:
		return ends[1], nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = ends[0].Close(), ends[1].Close()
	return nil, err
}
