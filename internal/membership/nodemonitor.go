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
// that the cluster allows: a daemon that is restarted within it does not lose its tasks. The monitor's own node is never Down: on a starved machine its
// session may break, but its daemon runs, and so do its tasks. Time in which this manager itself stood still does not count
// as silence of the nodes.
type NodeMonitor struct {
	log              *slog.Logger
	self             shoal.NodeID
	store            *store.Store
	leadership       Leadership
	heartbeatTimeout func(store.View) time.Duration
	restarted        bool

	mu       sync.Mutex // guards all below
	sessions map[shoal.NodeID]int
	lost     map[shoal.NodeID]time.Time // nodes without a session: when they were last heard of
	gone     map[shoal.NodeID]bool      // nodes whose daemon has ended, or whose session has: to be marked as absent
	wake     chan struct{}              // capacity 1
	lastLook time.Time                  // when due was last called
	stall    stall                      // the last one
}

// stall is a time in which this manager stood still: it was stopped, or had no processor.
type stall struct {
	end    time.Time
	length time.Duration
}

// excuse is when a node counts as heard of that was last heard of at a time, given a stall since. After one that is longer than the heartbeat timeout every
// node has a full one, because each has to open a new session.
func (s stall) excuse(heard time.Time, heartbeatTimeout time.Duration) time.Time {
	switch {
	case !heard.Before(s.end):
		return heard
	case s.length >= heartbeatTimeout:
		return s.end
	default:
		return heard.Add(min(s.length, s.end.Sub(heard)))
	}
}

// looksPerTimeout is how often the monitor looks, at least, within a heartbeat timeout. When twice the time between two looks passes without one, it has
// stood still.
const looksPerTimeout = 5

// NewNodeMonitor makes a monitor of the manager on the node self. It decides nothing before Run is called.
func NewNodeMonitor(log *slog.Logger, self shoal.NodeID, s *store.Store, leadership Leadership, heartbeatTimeout func(store.View) time.Duration) *NodeMonitor {
	return &NodeMonitor{
		log: log, self: self, store: s, leadership: leadership, heartbeatTimeout: heartbeatTimeout,
		sessions: map[shoal.NodeID]int{}, lost: map[shoal.NodeID]time.Time{}, gone: map[shoal.NodeID]bool{}, wake: make(chan struct{}, 1),
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
	heartbeatTimeout := m.heartbeatTimeout(m.store.View())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[id]--; m.sessions[id] <= 0 {
		delete(m.sessions, id)
		m.lost[id] = m.stall.excuse(lastHeard, heartbeatTimeout)
		m.markGoneLocked(id)
	}
}

// Run watches the nodes whenever this manager leads, until ctx ends.
func (m *NodeMonitor) Run(ctx context.Context) error {
	started := time.Now()
	for ctx.Err() == nil {
		epoch, leads, leadershipChanged := m.leadership.Leader()
		if leads {
			grace := graceAfterElection
			if m.restarted && time.Since(started) < justStarted {
				grace = graceAfterStart
			}
			m.startGracePeriods(grace)
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

// How many heartbeat timeouts every node has to open a session with a manager that has just become the leader. If that manager has just been started with an older
// state, there may have been no leader for long; agents then ask rarely, and wait for managers that do not answer.
const (
	graceAfterElection, graceAfterStart = 1, 3
	justStarted                         = 30 * time.Second
)

// Restarted tells the monitor, before Run, that its manager has been started with the state of an earlier life.
func (m *NodeMonitor) Restarted() { m.restarted = true }

// startGracePeriods gives every node that is not Down so many heartbeat timeouts, from now on, to open a session with this manager, which has just become
// the leader.
func (m *NodeMonitor) startGracePeriods(timeouts int) {
	view := m.store.View()
	nodes, more := view.Nodes(), time.Duration(timeouts-1)*m.heartbeatTimeout(view)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.lastLook = now
	clear(m.lost)
	for _, n := range nodes {
		if n.Status.State != shoal.NodeDown && m.sessions[n.ID] == 0 {
			m.lost[n.ID] = now.Add(more)
		}
	}
}

// watch sets nodes to Down when their heartbeat timeout is over, until another manager leads or ctx ends.
func (m *NodeMonitor) watch(ctx context.Context, epoch uint64, leadershipChanged <-chan struct{}) {
	for {
		m.markAbsent(ctx, epoch)
		due, next, stalled := m.due()
		if stalled > 0 {
			m.log.Warn("this manager stood still; nodes that were silent meanwhile get more time before they count as down", "for", stalled)
		}
		for _, id := range due {
			m.log.Warn("node is down: it has had no session for longer than the heartbeat timeout, its tasks will run elsewhere", "node", id)
			err := m.declareDown(ctx, epoch, id)
			if errors.Is(err, store.ErrFenced) {
				break // another manager leads: it watches the nodes now
			}
			if err != nil {
				m.log.Error("declare node down", "node", id, "err", err)
				m.watchAgain(id)
			}
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-leadershipChanged:
			timer.Stop()
			return
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due is the nodes whose heartbeat timeout is over, which are no longer watched, and the time at which to look next. stalled is how long this manager has stood
// still since it looked last.
func (m *NodeMonitor) due() (due []shoal.NodeID, next time.Time, stalled time.Duration) {
	heartbeatTimeout := m.heartbeatTimeout(m.store.View())
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	interval := heartbeatTimeout / looksPerTimeout
	if gap := now.Sub(m.lastLook); gap > 2*interval {
		stalled = gap - interval
		m.stall = stall{now, stalled}
		for id, heard := range m.lost {
			m.lost[id] = m.stall.excuse(heard, heartbeatTimeout)
		}
	}
	m.lastLook, next = now, now.Add(interval)
	for id, heard := range m.lost {
		end := heard.Add(heartbeatTimeout)
		switch {
		case id == m.self: // its daemon is this process
		case !now.Before(end):
			due = append(due, id)
			delete(m.lost, id)
		case end.Before(next):
			next = end
		}
	}
	return due, next, stalled
}

func (m *NodeMonitor) setStatus(ctx context.Context, epoch uint64, id shoal.NodeID, status shoal.NodeStatus) error {
	return m.store.Update(ctx, func(view store.View) (store.Changes, error) {
		changes := store.Changes{Fence: epoch}
		node := view.Node(id)
		if node == nil {
			return changes, nil
		}
		if status.State == shoal.NodeDown && m.hasSession(id) {
			return changes, nil // it came back while the verdict could not be written
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
