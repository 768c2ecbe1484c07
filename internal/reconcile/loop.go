// Package reconcile runs the controllers: it watches the store, finds the keys that a change concerns, calls the controllers
// with a snapshot and commits what they want changed. It reads everything and writes what controllers return, only while
// this node leads.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shoal-dev/shoal/internal/store"
)

// Key names what a controller reconciles at a time: for most of them the ID of an object of one kind. Only the controller itself
// gives it a meaning.
type Key string

// Controller brings one aspect of the cluster's state to what it should be. It is a value without clock, I/O or goroutines:
// all it knows is the view.
type Controller interface {
	// Name is for logs.
	Name() string
	// All is every key there is, for the start of a leadership.
	All(v store.View) []Key
	// Concerned is the keys whose result may be another one after a change; v is the state after it.
	Concerned(v store.View, c store.Change) []Key
	// Reconcile returns what to change for a key. It must return nothing when called again with its changes applied.
	Reconcile(v store.View, key Key) (store.Changes, error)
}

// Leadership tells whether this node leads; the channel is closed when that may have changed.
type Leadership interface {
	Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{})
}

// Config is what a Loop is made of.
type Config struct {
	Store      *store.Store
	Leadership Leadership
	// Controllers in the order in which work flows through them.
	Controllers []Controller
	Log         *slog.Logger
}

const (
	// maxWrites and maxSteps bound one transaction, so that its result is visible soon, and so that two controllers that keep
	// changing each other's output cannot keep it open for ever.
	maxWrites = 2000
	maxSteps  = 10000

	commitTimeout = 10 * time.Second
	firstBackoff  = 10 * time.Millisecond
	maxBackoff    = 30 * time.Second
)

// Loop is the one control loop.
type Loop struct{ cfg Config }

// New makes a loop; Run starts it.
func New(cfg Config) *Loop {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Loop{cfg}
}

// Run runs the controllers whenever this node leads, until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		epoch, leads, leadershipChanged := l.cfg.Leadership.Leader()
		if !leads {
			select {
			case <-ctx.Done():
			case <-leadershipChanged:
			}
			continue
		}
		l.cfg.Log.Info("controllers start", "epoch", epoch)
		if err := l.lead(ctx, epoch, leadershipChanged); err != nil && ctx.Err() == nil {
			l.cfg.Log.Warn("controllers stop until this manager leads again", "epoch", epoch, "err", err)
		}
		select { // without this wait, the loop would spin after ErrFenced until leadership is seen to have changed
		case <-ctx.Done():
		case <-leadershipChanged:
		}
	}
	return ctx.Err()
}

// lead runs the controllers during one epoch.
func (l *Loop) lead(ctx context.Context, epoch uint64, leadershipChanged <-chan struct{}) error {
	// What earlier leaders wrote has a smaller revision than the epoch.
	if err := l.cfg.Store.Wait(ctx, epoch); err != nil {
		return err
	}
	view, sub := l.cfg.Store.Subscribe()
	defer sub.Close()
	q := newQueue(l.cfg.Controllers)
	q.addAll(view)
	var ownRevision uint64
	for {
		for _, batch := range sub.Take() {
			if batch.View.Revision() == ownRevision {
				continue // our own commit: the work that follows from it was queued when it was made
			}
			for _, c := range batch.Changes {
				q.addConcerned(batch.View, c)
			}
		}
		q.addDue(time.Now())
		if q.empty() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-leadershipChanged:
				return errors.New("leadership has ended")
			case <-sub.Wake():
			case <-q.timer():
			}
			continue
		}
		rev, err := l.pass(ctx, epoch, q)
		if err != nil {
			return err
		}
		ownRevision = rev
		select {
		case <-leadershipChanged:
			return errors.New("leadership has ended")
		default:
		}
	}
}

// pass works off the queue against one snapshot and commits all changes at once. Each controller sees what the ones before
// it want, so that a new service is planned, allocated and scheduled in a single transaction.
func (l *Loop) pass(ctx context.Context, epoch uint64, q *queue) (uint64, error) {
	view := l.cfg.Store.View()
	t := transaction{objects: map[objectRef]object{}}
	var done []item
	for steps := 0; steps < maxSteps && t.len() < maxWrites; steps++ {
		work, ok := q.next()
		if !ok {
			break
		}
		changes, err := work.controller.Reconcile(view, work.key)
		if err != nil {
			l.cfg.Log.Warn("a controller failed on an object; it is tried again later", "controller", work.controller.Name(), "key", work.key, "err", err)
			q.backOff(work, time.Now())
			continue
		}
		done = append(done, work)
		if !changes.RequeueAt.IsZero() {
			q.at(work, changes.RequeueAt)
		}
		if changes.Empty() {
			q.succeeded(work)
			continue
		}
		before := view
		view = view.With(changes)
		t.add(changes)
		for _, c := range differences(before, changes) {
			q.addConcerned(view, c)
		}
	}
	rev, err := l.commit(ctx, t.changes(epoch))
	switch {
	case err == nil:
		for _, work := range done {
			q.succeeded(work)
		}
		return rev, nil
	case store.IsConflict(err):
		// An object was written by someone else meanwhile. The short back-off below lets that change arrive in the view.
		l.cfg.Log.Debug("commit met a conflict", "err", err)
	case errors.Is(err, store.ErrFenced):
		return 0, err
	case ctx.Err() != nil:
		return 0, ctx.Err()
	default:
		l.cfg.Log.Warn("changes of the controllers cannot be written to the store; they are planned again", "err", err)
	}
	for _, work := range done {
		q.backOff(work, time.Now())
	}
	return 0, nil
}

func (l *Loop) commit(ctx context.Context, c store.Changes) (uint64, error) {
	if c.Empty() {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	rev, err := l.cfg.Store.Commit(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return rev, nil
}
