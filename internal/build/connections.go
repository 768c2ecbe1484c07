package build

import (
	"context"
	"net"
	"sync"
)

// connections is a listener for connections that others have accepted.
type connections struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    func()
}

func newConnections() *connections {
	closed := make(chan struct{})
	return &connections{incoming: make(chan net.Conn), closed: closed, close: sync.OnceFunc(func() { close(closed) })}
}

// add hands a connection to whoever accepts. After an error it is still the caller's.
func (c *connections) add(ctx context.Context, conn net.Conn) error {
	select {
	case c.incoming <- conn:
		return nil
	case <-c.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dial makes a connection in memory.
func (c *connections) dial(ctx context.Context, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	return ours, c.add(ctx, theirs)
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	select {
	case conn := <-c.incoming:
		return conn, nil
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (c *connections) Close() error {
	c.close()
	return nil
}

// Addr implements net.Listener.
func (c *connections) Addr() net.Addr { return memoryAddr{} }

// memoryAddr is the address of what has none.
type memoryAddr struct{}

// Network implements net.Addr.
func (memoryAddr) Network() string { return "memory" }

// String implements net.Addr.
func (memoryAddr) String() string { return "buildkit" }
