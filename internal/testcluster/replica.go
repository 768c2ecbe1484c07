package testcluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/internal/store"
)

// replica is a running store member: the process that holds a member of the log.
type replica struct {
	log    *replicatedLog
	member *logMember

	done chan struct{}
	stop func() // closes done

	refuse *atomic.Int64 // so many writes fail

	mu                sync.Mutex // guards all below
	err               error      // why it has stopped by itself
	epoch             uint64
	leads             bool
	leadershipChanged chan struct{} // closed and replaced when leadership changes
}

var errRefused = errors.New("this write fails, as the test wants it")

var errMemberStopped = errors.New("the store member has stopped")

// memberConfig is what a store member starts with.
type memberConfig struct {
	name    string // the node's ID
	dir     string // the store's folder
	peerURL string
	join    bool // a member of the log has been made for it

	forceNew bool          // it is to be the only member
	refuse   *atomic.Int64 // so many writes fail
}

// start runs the member of the log that the store's folder names, or else the one that was made for the node, or else founds the log.
func (l *replicatedLog) start(ctx context.Context, cfg memberConfig) (*replica, error) {
	l.mu.Lock()
	m, err := l.claimLocked(filepath.Join(cfg.dir, memberFile), cfg.peerURL, cfg.join)
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	if cfg.forceNew {
		l.forceNewLocked(m)
	}
	r := l.holdLocked(m, cfg.name)
	r.refuse = cfg.refuse
	l.mu.Unlock()
	if err := r.await(ctx, func() bool { return l.connectedLocked(m) && m.applied == l.rev }); err != nil {
		r.Close()
		return nil, fmt.Errorf("start the store member: %w", err)
	}
	return r, nil
}

func (l *replicatedLog) holdLocked(m *logMember, name string) *replica {
	r := &replica{log: l, member: m, done: make(chan struct{}), leadershipChanged: make(chan struct{})}
	r.stop = sync.OnceFunc(func() { close(r.done) })
	m.name, m.holder, m.heard, m.follows = name, r, time.Now(), nil
	if len(l.members) == 1 {
		l.electLocked(m) // nobody else is waited for
	}
	go r.beat()
	return r
}

// beat ticks until the replica stops.
func (r *replica) beat() {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		r.log.tick(r.member, r)
		if r.expelled() {
			r.fail(store.ErrRemoved)
		}
		select {
		case <-r.done:
			return
		case <-ticker.C:
		}
	}
}

// expelled tells whether the member knows that the others have removed it.
func (r *replica) expelled() bool {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.member.removed && r.member.holder == r && l.leader != nil && l.reachLocked(r.member, l.leader)
}

// await waits until a condition on the log holds, as seen from this member.
func (r *replica) await(ctx context.Context, holds func() bool) error {
	const look = 10 * time.Millisecond
	for {
		r.log.mu.Lock()
		ok := r.member.holder == r && holds()
		changed := r.member.committed
		r.log.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-r.done:
			return errMemberStopped
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(look):
		}
	}
}

// ask waits for a leader that answers and then calls do with the log locked; as with etcd, that may take until ctx ends.
func (r *replica) ask(ctx context.Context, do func() error) error {
	for {
		if err := r.await(ctx, func() bool { return r.log.connectedLocked(r.member) }); err != nil {
			return err
		}
		if err := r.travel(ctx); err != nil {
			return err
		}
		l := r.log
		l.mu.Lock()
		if r.member.holder == r && l.connectedLocked(r.member) {
			err := do()
			l.mu.Unlock()
			return err
		}
		l.mu.Unlock()
	}
}

// travel takes as long as a message and its answer.
func (r *replica) travel(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return errMemberStopped
	case <-time.After(2 * latency):
		return nil
	}
}

// Load implements store.Backend.
func (r *replica) Load(ctx context.Context) (all []store.Record, rev uint64, err error) {
	err = r.ask(ctx, func() error {
		r.log.catchUpLocked(r.member)
		for _, record := range r.log.records {
			if strings.HasPrefix(record.Key, store.Prefix) {
				all = append(all, record)
			}
		}
		rev = r.log.rev
		return nil
	})
	return all, rev, err
}

// Txn implements store.Backend. A write whose outcome does not come back in time may have been carried out all the same.
func (r *replica) Txn(ctx context.Context, fence uint64, ops []store.Op) (uint64, error) {
	if err := store.CheckTxn(ops); err != nil {
		return 0, err
	}
	if r.refuse != nil && r.refuse.Add(-1) >= 0 {
		return 0, errRefused
	}
	bounded, cancel := context.WithTimeout(ctx, proposalLimit)
	defer cancel()
	var rev uint64
	err := r.ask(bounded, func() (err error) {
		rev, err = r.log.proposeLocked(r.member, fence, ops)
		return err
	})
	if err == nil {
		err = r.await(bounded, func() bool { return r.member.applied >= rev })
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return 0, store.ErrNoLeader
	}
	return rev, err
}

// Watch implements store.Backend.
func (r *replica) Watch(ctx context.Context, after uint64, each func(uint64, []store.Record)) error {
	l := r.log
	for {
		l.mu.Lock()
		if after < l.forgot {
			l.mu.Unlock()
			return store.ErrCompacted
		}
		var news []revision
		if r.member.applied > after {
			news = l.history[after-l.forgot : r.member.applied-l.forgot]
		}
		changed := r.member.committed
		l.mu.Unlock()
		for _, n := range news {
			each(n.rev, n.records)
			after = n.rev
		}
		if len(news) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return errMemberStopped
		case <-changed:
		}
	}
}

// ID implements swarm.Member.
func (r *replica) ID() string { return r.member.id }

// LeaderID implements swarm.Member.
func (r *replica) LeaderID() string {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.member.follows == nil {
		return "0"
	}
	return r.member.follows.id
}

// Leader implements swarm.Member.
func (r *replica) Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch, r.leads, r.leadershipChanged
}

// Run implements swarm.Member: it writes the epoch key each time this member comes to lead.
func (r *replica) Run(ctx context.Context) error {
	defer r.setLeadership(0, false)
	for {
		r.log.mu.Lock()
		elected, changed := r.member.follows == r.member, r.member.committed
		r.log.mu.Unlock()
		_, leads, _ := r.Leader()
		var again <-chan time.Time
		switch {
		case elected && !leads:
			if epoch, err := r.begin(ctx); err == nil {
				r.setLeadership(epoch, true)
			} else {
				again = time.After(retryPause)
			}
		case !elected && leads:
			r.setLeadership(0, false)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return errMemberStopped
		case <-changed:
		case <-again:
		}
	}
}

func (r *replica) begin(ctx context.Context) (uint64, error) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return r.Txn(ctx, 0, []store.Op{{Key: store.EpochKey, Value: []byte(r.member.id), If: store.AnyRevision}})
}

func (r *replica) setLeadership(epoch uint64, leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leads == leads && r.epoch == epoch {
		return
	}
	r.epoch, r.leads = epoch, leads
	close(r.leadershipChanged)
	r.leadershipChanged = make(chan struct{})
}

// Resign implements swarm.Member.
func (r *replica) Resign() error {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leader != r.member || len(l.members) == 1 {
		return nil
	}
	for _, id := range l.idsLocked() {
		if m := l.members[id]; m != r.member && !m.learner && l.reachLocked(r.member, m) && l.majorityLocked(m) {
			l.electLocked(m)
			return nil
		}
	}
	return errors.New("hand over leadership: no other member can take it")
}

// Stand implements swarm.Member. Members of a testcluster elect after silence only, the slower of the two ways.
func (r *replica) Stand(context.Context, string) error { return nil }

// Learner implements swarm.Member.
func (r *replica) Learner() bool {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.member.learner || r.member.removed
}

// Done implements swarm.Member.
func (r *replica) Done() <-chan struct{} { return r.done }

// Err implements swarm.Member.
func (r *replica) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Problems implements swarm.Member.
func (r *replica) Problems() []string { return nil }

// fail stops the member as etcd's stops by itself.
func (r *replica) fail(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	r.Close()
}

// die is the end of the process, of which the process itself is not told: nothing it asks for is answered any more.
func (r *replica) die() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.member.holder == r {
		r.member.holder, r.member.follows = nil, nil
	}
}

// Close implements swarm.Member. Without its process the member of the log takes no part in anything.
func (r *replica) Close() {
	r.die()
	r.stop()
}
