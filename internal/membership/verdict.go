package membership

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// declareDown writes that a node is down. If the node has come back meanwhile, which Up may not have seen the need to write, that is written then.
func (m *NodeMonitor) declareDown(ctx context.Context, epoch uint64, id shoal.NodeID) error {
	err := m.setStatus(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeDown, Message: "heartbeat failure"})
	if err == nil && m.hasSession(id) {
		err = m.setStatus(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeReady})
	}
	return err
}

// watchAgain keeps watching a node whose verdict could not be written.
func (m *NodeMonitor) watchAgain(id shoal.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, watched := m.lost[id]; !watched && m.sessions[id] == 0 {
		m.lost[id] = time.Now()
	}
}

func (m *NodeMonitor) hasSession(id shoal.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[id] > 0
}
