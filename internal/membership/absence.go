package membership

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Gone tells the monitor that a node's daemon has ended. A manager learns it of the leader that it is to succeed, whose sessions it never had.
func (m *NodeMonitor) Gone(node shoal.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.markGoneLocked(node)
}

func (m *NodeMonitor) markGoneLocked(node shoal.NodeID) {
	m.gone[node] = true
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// markAbsent records which nodes are gone, so that no new task waits for them. A node whose session begins meanwhile is not absent: if Up has not
// seen the mark that it was to take back, it is taken back here.
func (m *NodeMonitor) markAbsent(ctx context.Context, epoch uint64) {
	m.mu.Lock()
	gone := slices.Sorted(maps.Keys(m.gone))
	clear(m.gone)
	m.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	marked, err := m.setAbsent(ctx, epoch, gone)
	if err == nil && len(marked) > 0 {
		_, err = m.setAbsent(ctx, epoch, marked)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrFenced) {
		m.log.Warn("nodes whose daemon is away cannot be marked; new tasks may be placed on them and wait for them", "nodes", gone, "err", err)
	}
}

// setAbsent marks nodes as absent, or takes that back, by whether they have a session now. It returns those that are marked.
func (m *NodeMonitor) setAbsent(ctx context.Context, epoch uint64, nodes []shoal.NodeID) (marked []shoal.NodeID, err error) {
	err = m.store.Update(ctx, func(view store.View) (store.Changes, error) {
		changes := store.Changes{Fence: epoch}
		marked = nil
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, id := range nodes {
			node, absent := view.Node(id), m.sessions[id] == 0
			if node == nil || !node.Ready() {
				continue
			}
			if absent {
				marked = append(marked, id)
			}
			if n := *node; n.Status.Absent != absent {
				n.Status.Absent = absent
				changes.Put(&n)
			}
		}
		return changes, nil
	})
	return marked, err
}
