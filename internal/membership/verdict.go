package membership

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Verdicts decides which nodes are Ready and which are Down, from the sessions that this manager serves. A node is Ready once
// it has a session, and Down when it has been without one for longer than the silence that the cluster allows: a daemon
// that is restarted within it does not lose its tasks.
type Verdicts struct {
	log     *slog.Logger
	store   *store.Store
	silence func(store.View) time.Duration

	mu       sync.Mutex // guards all below
	sessions map[shoal.ID]int
	lost     map[shoal.ID]time.Time // nodes without a session: when they were last heard of
	wake     chan struct{}          // capacity 1
}

// NewVerdicts makes the judge; Run lets it judge.
func NewVerdicts(log *slog.Logger, s *store.Store, silence func(store.View) time.Duration) *Verdicts {
	return &Verdicts{
		log: log, store: s, silence: silence,
		sessions: map[shoal.ID]int{}, lost: map[shoal.ID]time.Time{}, wake: make(chan struct{}, 1),
	}
}

// Up records that a node has a session, and writes the verdict.
func (v *Verdicts) Up(ctx context.Context, id shoal.ID, addr string) error {
	v.mu.Lock()
	v.sessions[id]++
	delete(v.lost, id)
	v.mu.Unlock()
	return v.judge(ctx, id, shoal.NodeStatus{State: shoal.NodeReady, Addr: addr})
}

// Lost records that a node's session is over.
func (v *Verdicts) Lost(id shoal.ID, lastHeard time.Time) {
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

// Run declares nodes down when their time has come, until ctx ends. Nodes that are Ready at the start have, from then on,
// as long as any other to open a session.
func (v *Verdicts) Run(ctx context.Context) error {
	v.mu.Lock()
	now := time.Now()
	for _, n := range v.store.View().Nodes() {
		if n.Status.State != shoal.NodeDown && v.sessions[n.ID] == 0 {
			v.lost[n.ID] = now
		}
	}
	v.mu.Unlock()
	for {
		due, next := v.due()
		for _, id := range due {
			v.log.Warn("node is down", "node", id)
			if err := v.judge(ctx, id, shoal.NodeStatus{State: shoal.NodeDown, Message: "heartbeat failure"}); err != nil {
				v.log.Error("declare node down", "node", id, "err", err)
			}
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.wake:
		case <-timer:
		}
	}
}

// due takes the nodes whose time is over, and tells when the next one's is.
func (v *Verdicts) due() (due []shoal.ID, next time.Time) {
	silence := v.silence(v.store.View())
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for id, heard := range v.lost {
		end := heard.Add(silence)
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

func (v *Verdicts) judge(ctx context.Context, id shoal.ID, status shoal.NodeStatus) error {
	return v.store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		node := view.Node(id)
		if node == nil {
			return changes, nil
		}
		if status.Addr == "" {
			status.Addr = node.Status.Addr
		}
		if n := *node; n.Status != status {
			n.Status = status
			changes.Put(&n)
		}
		return changes, nil
	})
}
