package testcluster

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// sendBuffer is how many bytes may be under way in one direction before a writer has to wait, as in a kernel's default.
const sendBuffer = 4 << 20

// stream is what travels in one direction of a connection. Its fields are guarded by network.mu.
type stream struct {
	changed *sync.Cond // of network.mu
	pieces  []piece
	size    int
	ended   bool // the writer has closed it
}

// piece arrives at a time.
type piece struct {
	data []byte
	at   time.Time
}

func newStream(n *network) *stream { return &stream{changed: sync.NewCond(&n.mu)} }

// conn is one end of a connection.
type conn struct {
	net           *network
	owner         *endpoint
	local, remote netip.AddrPort
	peer          *conn
	in, out       *stream

	// guarded by net.mu
	closed, reset               bool
	readDeadline, writeDeadline time.Time
}

// failedLocked is why nothing can be read or written any more.
func (c *conn) failedLocked(deadline time.Time) error {
	switch {
	case c.closed || c.owner.closed:
		return net.ErrClosed
	case c.reset:
		return syscall.ECONNRESET
	case !deadline.IsZero() && !time.Now().Before(deadline):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for {
		if err := c.failedLocked(c.readDeadline); err != nil {
			return 0, err
		}
		arrives := c.net.passesLocked(c.remote.Addr(), c.local.Addr())
		switch {
		case !arrives:
		case len(c.in.pieces) > 0 && !time.Now().Before(c.in.pieces[0].at):
			return c.in.takeLocked(p), nil
		case len(c.in.pieces) == 0 && c.in.ended:
			return 0, io.EOF
		}
		c.in.changed.Wait()
	}
}

// takeLocked reads what has arrived first.
func (s *stream) takeLocked(p []byte) int {
	first := &s.pieces[0]
	n := copy(p, first.data)
	first.data = first.data[n:]
	if len(first.data) == 0 {
		s.pieces = s.pieces[1:]
	}
	s.size -= n
	s.changed.Broadcast()
	return n
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for {
		if err := c.failedLocked(c.writeDeadline); err != nil {
			return 0, err
		}
		if c.peer.closed && c.net.passesLocked(c.remote.Addr(), c.local.Addr()) {
			return 0, syscall.EPIPE
		}
		if c.out.size < sendBuffer && c.net.takesLocked(c.local.Addr(), c.remote.Addr()) {
			break
		}
		c.out.changed.Wait()
	}
	c.out.pieces = append(c.out.pieces, piece{append([]byte(nil), p...), time.Now().Add(latency)})
	c.out.size += len(p)
	c.net.wakeLater(c.out)
	return len(p), nil
}

// wakeLater wakes those who wait for a stream when what is sent now arrives.
func (n *network) wakeLater(s *stream) {
	time.AfterFunc(latency, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		s.changed.Broadcast()
	})
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed, c.out.ended = true, true
	delete(c.net.conns, c)
	c.in.changed.Broadcast()
	c.out.changed.Broadcast()
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // never fails
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.readDeadline = t
	c.wakeAtLocked(c.in, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.writeDeadline = t
	c.wakeAtLocked(c.out, t)
	return nil
}

// wakeAtLocked wakes those who wait for a stream at a deadline. One that is moved wakes them for nothing, which does no harm.
func (c *conn) wakeAtLocked(s *stream, t time.Time) {
	s.changed.Broadcast()
	// Timers of no duration are avoided: of Go 1.26.8, they crash the race detector in a bubble of virtual time now and then (runtime.(*timer).modify).
	wait := time.Until(t)
	if t.IsZero() || wait <= 0 {
		return
	}
	time.AfterFunc(wait, func() {
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		s.changed.Broadcast()
	})
}
