package network

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/network/probe"
)

// probesPart is the probes among the parts of the node.
const probesPart = "probes of other nodes"

// probing is whether the node answers and sends probes: only while it is in a cluster. Outside of one it has no port open for them.
type probing struct {
	mu      sync.Mutex // guards what follows
	on      bool
	conn    net.PacketConn // nil while the port cannot be had
	changed chan struct{}  // closed and replaced when on changes
}

// StartProbes opens the port of probes. If it cannot be had, the error says so, and it is tried again until StopProbes. It is no error to call it twice.
func (n *Networks) StartProbes() error {
	p := &n.probing
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on && p.conn != nil {
		return nil
	}
	conn, err := probe.Listen(n.plane.InNode, n.cfg.ProbePort)
	n.cfg.Quarantine.Note(probesPart, err)
	p.on, p.conn = true, conn
	n.probesChangedLocked()
	return err
}

// StopProbes closes the port of probes.
func (n *Networks) StopProbes() {
	p := &n.probing
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		_ = p.conn.Close()
	}
	p.on, p.conn = false, nil
	n.cfg.Quarantine.Note(probesPart, nil)
	n.probesChangedLocked()
}

func (n *Networks) probesChangedLocked() {
	close(n.probing.changed)
	n.probing.changed = make(chan struct{})
}

// probes is whether there are to be probes, the port if it is had, and a channel that is closed when that changes.
func (n *Networks) probes() (bool, net.PacketConn, <-chan struct{}) {
	n.probing.mu.Lock()
	defer n.probing.mu.Unlock()
	return n.probing.on, n.probing.conn, n.probing.changed
}

// probe answers and sends probes, as long as the node is to. While it cannot, for another program has the port, no peer is suspected by this node.
func (n *Networks) probe(ctx context.Context) error {
	const pause = 2 * time.Second
	for ctx.Err() == nil {
		on, conn, changed := n.probes()
		if conn != nil {
			n.runProbes(ctx, conn, changed)
		}
		var retry <-chan time.Time
		if on {
			retry = time.After(pause)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-retry:
			_ = n.retryProbes() // noted
		}
	}
	return nil
}

// retryProbes opens the port if there are still to be probes.
func (n *Networks) retryProbes() error {
	if on, _, _ := n.probes(); !on {
		return nil
	}
	return n.StartProbes()
}

// runProbes works with the port until ctx ends, changed is closed, or it fails.
func (n *Networks) runProbes(ctx context.Context, conn net.PacketConn, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := probe.Run(ctx, probe.Config{Conn: conn, Peers: n.probeTargets, Suspect: n.suspectPeers, Called: n.cfg.Called})
	n.probing.mu.Lock()
	defer n.probing.mu.Unlock()
	if n.probing.conn == conn { // it has failed
		n.probing.conn = nil
		if err != nil && ctx.Err() == nil {
			n.cfg.Quarantine.Note(probesPart, err)
		}
	}
}
