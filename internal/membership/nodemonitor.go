package membership

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Leadership tells whether this manager leads, in which epoch; the channel is closed when that may have changed.
type Leadership interface {
	Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{})
}

// NodeMonitor decides which nodes are Ready and which are Down. It does so while this manager leads, because then every node's
// session is with it. A node is Ready once it has a session, and Down when it has been without one for longer than the silence
// that the cluster allows: a daemon that is restarted within it does not lose its tasks.
type NodeMonitor struct {
	log              *slog.Logger
	store            *store.Store
	leadership       Leadership
	heartbeatTimeout func(store.View) time.Duration

	mu       sync.Mutex // guards all below
	sessions map[shoal.NodeID]int
	lost     map[shoal.NodeID]time.Time // nodes without a session: when they were last heard of
	wake     chan struct{}              // capacity 1
}

// NewNodeMonitor makes a monitor. It decides nothing before Run is called.
func NewNodeMonitor(log *slog.Logger, s *store.Store, leadership Leadership, heartbeatTimeout func(store.View) time.Duration) *NodeMonitor {
	return &NodeMonitor{
		log: log, store: s, leadership: leadership, heartbeatTimeout: heartbeatTimeout,
		sessions: map[shoal.NodeID]int{}, lost: map[shoal.NodeID]time.Time{}, wake: make(chan struct{}, 1),
	}
}

// Up records that a node has a session and sets its state to Ready. addr is where the node calls from.
func (m *NodeMonitor) Up(ctx context.Context, id shoal.NodeID, addr netip.Addr) error {
	m.mu.Lock()
	m.sessions[id]++
	delete(m.lost, id)
	m.mu.Unlock()
	epoch, _, _ := m.leadership.Leader()
	return m.setStatus(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeReady, Addr: addr})
}

// Lost records that a node's session is over.
func (m *NodeMonitor) Lost(id shoal.NodeID, lastHeard time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[id]--; m.sessions[id] <= 0 {
		delete(m.sessions, id)
		m.lost[id] = lastHeard
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// Run watches the nodes whenever this manager leads, until ctx ends.
func (m *NodeMonitor) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		epoch, leads, leadershipChanged := m.leadership.Leader()
		if leads {
			m.startGracePeriods()
			m.watch(ctx, epoch, leadershipChanged)
			continue
		}
		select {
		case <-ctx.Done():
		case <-leadershipChanged:
		}
	}
	return ctx.Err()
}

// startGracePeriods gives every node that is not Down a full heartbeat timeout, from now on, to open a session with this manager,
// which has just become the leader.
func (m *NodeMonitor) startGracePeriods() {
	nodes := m.store.View().Nodes()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	clear(m.lost)
	for _, n := range nodes {
		if n.Status.State != shoal.NodeDown && m.sessions[n.ID] == 0 {
			m.lost[n.ID] = now
		}
	}
}

// watch sets nodes to Down when their heartbeat timeout is over, until another manager leads or ctx ends.
func (m *NodeMonitor) watch(ctx context.Context, epoch uint64, leadershipChanged <-chan struct{}) {
	for {
		due, next := m.due()
		for _, id := range due {
			m.log.Warn("node is down: it had no session for longer than the heartbeat timeout, its tasks will run elsewhere", "node", id)
			err := m.setStatus(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeDown, Message: "heartbeat failure"})
			if errors.Is(err, store.ErrFenced) {
				break // another manager leads: it watches the nodes now
			}
			if err != nil {
				m.log.Error("declare node down", "node", id, "err", err)
			}
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-leadershipChanged:
			return
		case <-m.wake:
		case <-timer:
		}
	}
}

// due is the nodes whose heartbeat timeout is over, which are no longer watched, and the time at which the next one's will be; zero
// if no node is without a session.
func (m *NodeMonitor) due() (due []shoal.NodeID, next time.Time) {
	heartbeatTimeout := m.heartbeatTimeout(m.store.View())
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for id, heard := range m.lost {
		end := heard.Add(heartbeatTimeout)
		switch {
		case !now.Before(end):
			due = append(due, id)
			delete(m.lost, id)
		case next.IsZero() || end.Before(next):
			next = end
		}
	}
	return due, next
}

func (m *NodeMonitor) setStatus(ctx context.Context, epoch uint64, id shoal.NodeID, status shoal.NodeStatus) error {
	return m.store.Update(ctx, func(view store.View) (store.Changes, error) {
		changes := store.Changes{Fence: epoch}
		node := view.Node(id)
		if node == nil {
			return changes, nil
		}
		if !status.Addr.IsValid() {
			status.Addr = node.Status.Addr
		}
		if n := *node; n.Status != status {
			n.Status = status
			changes.Put(&n)
		}
		return changes, nil
	})
}
