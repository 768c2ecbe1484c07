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

// NodeMonitor decides which nodes are Ready and which are Down. It judges while this manager leads, because then every node's
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

// NewNodeMonitor makes the judge; Run lets it judge.
func NewNodeMonitor(log *slog.Logger, s *store.Store, leadership Leadership, heartbeatTimeout func(store.View) time.Duration) *NodeMonitor {
	return &NodeMonitor{
		log: log, store: s, leadership: leadership, heartbeatTimeout: heartbeatTimeout,
		sessions: map[shoal.NodeID]int{}, lost: map[shoal.NodeID]time.Time{}, wake: make(chan struct{}, 1),
	}
}

// Up records that a node has a session and sets its state to Ready. addr is where the node calls from.
func (v *NodeMonitor) Up(ctx context.Context, id shoal.NodeID, addr netip.Addr) error {
	v.mu.Lock()
	v.sessions[id]++
	delete(v.lost, id)
	v.mu.Unlock()
	epoch, _, _ := v.leadership.Leader()
	return v.setStatus(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeReady, Addr: addr})
}

// Lost records that a node's session is over.
func (v *NodeMonitor) Lost(id shoal.NodeID, lastHeard time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sessions[id]--; v.sessions[id] <= 0 {
		delete(v.sessions, id)
		v.lost[id] = lastHeard
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
}

// Run watches the nodes whenever this manager leads, until ctx ends.
func (v *NodeMonitor) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		epoch, leads, leadershipChanged := v.leadership.Leader()
		if leads {
			v.startGracePeriods()
			v.watch(ctx, epoch, leadershipChanged)
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
func (v *NodeMonitor) startGracePeriods() {
	nodes := v.store.View().Nodes()
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	clear(v.lost)
	for _, n := range nodes {
		if n.Status.State != shoal.NodeDown && v.sessions[n.ID] == 0 {
			v.lost[n.ID] = now
		}
	}
}

// watch sets nodes to Down when their heartbeat timeout is over, until another manager leads or ctx ends.
func (v *NodeMonitor) watch(ctx context.Context, epoch uint64, leadershipChanged <-chan struct{}) {
	for {
		due, next := v.due()
		for _, id := range due {
			v.log.Warn("node is down: it had no session for longer than the heartbeat timeout, its tasks will run elsewhere", "node", id)
			err := v.setStatus(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeDown, Message: "heartbeat failure"})
			if errors.Is(err, store.ErrFenced) {
				break // another manager leads: it watches the nodes now
			}
			if err != nil {
				v.log.Error("declare node down", "node", id, "err", err)
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
		case <-v.wake:
		case <-timer:
		}
	}
}

// due is the nodes whose heartbeat timeout is over, which are no longer watched, and the time at which the next one's will be; zero
// if no node is without a session.
func (v *NodeMonitor) due() (due []shoal.NodeID, next time.Time) {
	heartbeatTimeout := v.heartbeatTimeout(v.store.View())
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for id, heard := range v.lost {
		end := heard.Add(heartbeatTimeout)
		switch {
		case !now.Before(end):
			due = append(due, id)
			delete(v.lost, id)
		case next.IsZero() || end.Before(next):
			next = end
		}
	}
	return due, next
}

func (v *NodeMonitor) setStatus(ctx context.Context, epoch uint64, id shoal.NodeID, status shoal.NodeStatus) error {
	return v.store.Update(ctx, func(view store.View) (store.Changes, error) {
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
