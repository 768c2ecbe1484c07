package testcluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// latency is how long a message travels between two machines, or within one.
const latency = 200 * time.Microsecond

// network carries the connections between machines, in memory. Like TCP, it holds back what a broken link does not let through and
// delivers it when the link is whole again; like IP, it tells nobody of a link that is broken or of a machine without power.
type network struct {
	mu        sync.Mutex // guards all below, and the streams of all connections
	listeners map[string]*listener
	broken    map[link]bool
	full      map[link]bool       // nobody reads what is sent, so that writers wait
	stalled   map[netip.Addr]bool // machines whose daemon has been stopped for a while
	off       map[netip.Addr]bool // machines without power
	conns     map[*conn]bool      // both ends of each connection, until it is closed or reset
}

// link is the path from one machine to another, in one direction.
type link struct{ from, to netip.Addr }

func newNetwork() *network {
	return &network{listeners: map[string]*listener{}, broken: map[link]bool{}, full: map[link]bool{}, stalled: map[netip.Addr]bool{}, off: map[netip.Addr]bool{}, conns: map[*conn]bool{}}
}

// passesLocked tells whether bytes that one machine sends arrive at another.
func (n *network) passesLocked(from, to netip.Addr) bool {
	return !n.off[from] && !n.off[to] && !n.stalled[from] && !n.stalled[to] && !n.broken[link{from, to}]
}

// takesLocked tells whether a write from one machine to another returns.
func (n *network) takesLocked(from, to netip.Addr) bool {
	return !n.full[link{from, to}] && !n.stalled[from]
}

// stall stops or continues a machine's daemon, as far as the network is concerned.
func (n *network) stall(addr netip.Addr, stalled bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if stalled {
		n.stalled[addr] = true
	} else {
		delete(n.stalled, addr)
	}
	n.wakeLocked()
}

// runs tells whether a machine's daemon is not stalled.
func (n *network) runs(addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.stalled[addr]
}

// fill makes writes from one machine to another wait until mend.
func (n *network) fill(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.full[link{from, to}] = true
}

// reach tells whether bytes arrive in both directions between two machines.
func (n *network) reach(a, b netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.passesLocked(a, b) && n.passesLocked(b, a)
}

// setLink breaks or mends a link; what it held back arrives then.
func (n *network) setLink(from, to netip.Addr, broken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if broken {
		n.broken[link{from, to}] = true
	} else {
		delete(n.broken, link{from, to})
	}
	n.wakeLocked()
}

// mend makes all links whole.
func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.broken)
	clear(n.full)
	n.wakeLocked()
}

func (n *network) wakeLocked() {
	for c := range n.conns {
		c.in.changed.Broadcast()
		c.out.changed.Broadcast()
	}
}

// setPower switches a machine off or on. Connections of a machine without power stay silent; when it is back, it resets what its
// peers still believe in.
func (n *network) setPower(addr netip.Addr, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !on {
		n.off[addr] = true
		return
	}
	delete(n.off, addr)
	for c := range n.conns {
		if c.remote.Addr() == addr && !n.conns[c.peer] {
			n.resetLocked(c)
		}
	}
}

// endpoint is a process's place in the network. Once it is closed nothing it does has an effect any more.
type endpoint struct {
	net    *network
	addr   netip.Addr
	closed bool // guarded by net.mu
	ports  uint16
}

func (n *network) endpoint(addr netip.Addr) *endpoint {
	const firstEphemeralPort = 32768
	return &endpoint{net: n, addr: addr, ports: firstEphemeralPort}
}

// close ends all that the process has open, as the kernel does when a process dies: the other ends are reset, if the links let it through.
func (e *endpoint) close() {
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	e.closed = true
	for _, l := range n.listeners {
		if l.owner == e {
			l.closeLocked()
		}
	}
	for c := range n.conns {
		if c.owner == e {
			n.resetLocked(c)
			if n.conns[c.peer] && n.passesLocked(c.local.Addr(), c.remote.Addr()) {
				n.resetLocked(c.peer)
			}
		}
	}
}

// resetLocked ends one end of a connection with an error.
func (n *network) resetLocked(c *conn) {
	c.reset = true
	delete(n.conns, c)
	c.in.changed.Broadcast()
	c.out.changed.Broadcast()
}

// listen opens "IP:port".
func (e *endpoint) listen(addr string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, taken := n.listeners[addr]; taken || e.closed {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: syscall.EADDRINUSE}
	}
	l := &listener{owner: e, at: at, accepted: make(chan *conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// connect opens a connection to "IP:port". To a machine that does not answer it takes as long as ctx allows.
func (e *endpoint) connect(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	c, l, err := e.open(ctx, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	select {
	case l.accepted <- c.peer:
		return c, nil
	case <-l.closed:
		err = syscall.ECONNREFUSED
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = c.Close(), c.peer.Close()
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
}

// open waits for the links to be whole and makes both ends.
func (e *endpoint) open(ctx context.Context, to netip.AddrPort) (*conn, *listener, error) {
	const retransmission = 200 * time.Millisecond
	n := e.net
	for pause := 2 * latency; ; pause = retransmission {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(pause):
		}
		n.mu.Lock()
		switch l := n.listeners[to.String()]; {
		case e.closed:
			n.mu.Unlock()
			return nil, nil, net.ErrClosed
		case !n.passesLocked(e.addr, to.Addr()) || !n.passesLocked(to.Addr(), e.addr):
		case l == nil:
			n.mu.Unlock()
			return nil, nil, syscall.ECONNREFUSED
		default:
			e.ports++
			c := n.pairLocked(e, l.owner, netip.AddrPortFrom(e.addr, e.ports), to)
			n.mu.Unlock()
			return c, l, nil
		}
		n.mu.Unlock()
	}
}

func (n *network) pairLocked(from, to *endpoint, local, remote netip.AddrPort) *conn {
	there, back := newStream(n), newStream(n)
	a := &conn{net: n, owner: from, local: local, remote: remote, in: back, out: there}
	b := &conn{net: n, owner: to, local: remote, remote: local, in: there, out: back}
	a.peer, b.peer = b, a
	n.conns[a], n.conns[b] = true, true
	return a
}

// listener is an open port.
type listener struct {
	owner    *endpoint
	at       netip.AddrPort
	accepted chan *conn
	closed   chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.owner.net.mu.Lock()
	defer l.owner.net.mu.Unlock()
	l.closeLocked()
	return nil
}

func (l *listener) closeLocked() {
	if n := l.owner.net; n.listeners[l.at.String()] == l {
		delete(n.listeners, l.at.String())
		close(l.closed)
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// String lists the listeners, for the reports of failed tests.
func (n *network) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var text strings.Builder
	for l := range n.broken {
		fmt.Fprintf(&text, "link %s to %s is broken\n", l.from, l.to)
	}
	for l := range n.full {
		fmt.Fprintf(&text, "link %s to %s is full\n", l.from, l.to)
	}
	for addr := range n.stalled {
		fmt.Fprintf(&text, "%s is stalled\n", addr)
	}
	for addr := range n.off {
		fmt.Fprintf(&text, "%s is off\n", addr)
	}
	return text.String()
}
