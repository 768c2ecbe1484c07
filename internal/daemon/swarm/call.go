package swarm

import (
	"context"
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// callInterval is the time between two calls to a node that has no session.
const callInterval = 2 * time.Second

// defaultProbePort is where nodes are called unless they say otherwise.
const defaultProbePort = 7946

// callNodes calls the nodes that have no session, as long as this manager leads: they may know managers only where those are no more (docs/membership.md).
func (m *Manager) callNodes(ctx context.Context, call func(netip.AddrPort) error) error {
	ticker := time.NewTicker(callInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if !m.Leads() {
			continue
		}
		for _, n := range m.store.View().Nodes() {
			if to, ok := m.toCall(n); ok {
				if err := call(to); err != nil {
					m.log.Debug("node cannot be called", "node", n.ID, "to", to, "err", err)
				}
			}
		}
	}
}

// toCall is where a node without a session is called.
func (m *Manager) toCall(n *shoal.Node) (to netip.AddrPort, ok bool) {
	port := n.ProbePort
	if port == 0 {
		port = defaultProbePort
	}
	return netip.AddrPortFrom(n.Status.Addr, port), n.ID != m.node && (!n.Ready() || n.Status.Absent) && n.Status.Addr.IsValid()
}
