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

// Verdicts decides which nodes are Ready and which are Down. It judges while this manager leads, because then every node's
// session is with it. A node is Ready once it has a session, and Down when it has been without one for longer than the silence
// that the cluster allows: a daemon that is restarted within it does not lose its tasks.
type Verdicts struct {
	log        *slog.Logger
	store      *store.Store
	leadership Leadership
	silence    func(store.View) time.Duration

	mu       sync.Mutex // guards all below
	sessions map[shoal.NodeID]int
	lost     map[shoal.NodeID]time.Time // nodes without a session: when they were last heard of
	wake     chan struct{}              // capacity 1
}

// NewVerdicts makes the judge; Run lets it judge.
func NewVerdicts(log *slog.Logger, s *store.Store, leadership Leadership, silence func(store.View) time.Duration) *Verdicts {
	return &Verdicts{
		log: log, store: s, leadership: leadership, silence: silence,
		sessions: map[shoal.NodeID]int{}, lost: map[shoal.NodeID]time.Time{}, wake: make(chan struct{}, 1),
	}
}

// Up records that a node has a session, and writes the verdict.
func (v *Verdicts) Up(ctx context.Context, id shoal.NodeID, addr netip.Addr) error {
	v.mu.Lock()
	v.sessions[id]++
	delete(v.lost, id)
	v.mu.Unlock()
	epoch, _, _ := v.leadership.Leader()
	return v.judge(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeReady, Addr: addr})
}

// Lost records that a node's session is over.
func (v *Verdicts) Lost(id shoal.NodeID, lastHeard time.Time) {
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

// Run judges whenever this manager leads, until ctx ends.
func (v *Verdicts) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		epoch, leads, leadershipChanged := v.leadership.Leader()
		if leads {
			v.begin()
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

// begin gives every node that is not Down as long as any other, from now on, to open a session with the new leader.
func (v *Verdicts) begin() {
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

// watch declares nodes down when their time has come, until another manager leads or ctx ends.
func (v *Verdicts) watch(ctx context.Context, epoch uint64, leadershipChanged <-chan struct{}) {
	for {
		due, next := v.due()
		for _, id := range due {
			v.log.Warn("node is down", "node", id)
			err := v.judge(ctx, epoch, id, shoal.NodeStatus{State: shoal.NodeDown, Message: "heartbeat failure"})
			if errors.Is(err, store.ErrFenced) {
				break // the next leader judges
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

// due takes the nodes whose time is over, and tells when the next one's is.
func (v *Verdicts) due() (due []shoal.NodeID, next time.Time) {
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

func (v *Verdicts) judge(ctx context.Context, epoch uint64, id shoal.NodeID, status shoal.NodeStatus) error {
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
