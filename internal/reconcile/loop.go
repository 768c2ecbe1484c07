// Package reconcile runs the controllers: it watches the store, finds the keys that a change concerns, calls the controllers
// with a snapshot and commits what they want changed. It reads everything and writes what controllers return, only while
// this node leads.
package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
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
	// Reconcile returns what to change for a key. It must return nothing when called again with its changes applied. When it wants more than there
	// is room for, only some are applied before it is called again: all or nothing of each store.GroupOf, and whatever is no task.
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
	// maxWrites and maxSteps bound one pass, so that its result is visible soon, that no key holds up the others, and that two
	// controllers that keep changing each other's output cannot keep it open for ever.
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
	var own []uint64 // revisions of the last pass
	for {
		for _, batch := range sub.Take() {
			if slices.Contains(own, batch.View.Revision()) {
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
		var err error
		if own, err = l.pass(ctx, epoch, q); err != nil {
			return err
		}
		select {
		case <-leadershipChanged:
			return errors.New("leadership has ended")
		default:
		}
	}
}

// pass works off the queue against one snapshot and commits all changes at once. Each controller sees what the ones before
// it want, so that a new service is planned, allocated and scheduled in a single transaction. When the transaction has no room for what a controller
// wants, the rest is left out. The first controller, which plans what the others complete, then waits for the next pass, and the key that filled the transaction behind
// its others, so that a large object holds up no small one. The others go on with what the transaction has; what they had no room for comes first in the next
// pass. pass returns the revisions that it made.
func (l *Loop) pass(ctx context.Context, epoch uint64, q *queue) ([]uint64, error) {
	view := l.cfg.Store.View()
	t := newTransaction()
	var done, postponed []item
	first := 0 // 1: the first controller waits for the next pass
	for range maxSteps {
		work, at, ok := q.next(first)
		if !ok {
			break
		}
		var changes store.Changes
		err := fault.Contain(l.cfg.Log, "controller "+work.controller.Name(), func() (err error) { // it keeps nothing between calls
			changes, err = work.controller.Reconcile(view, work.key)
			return err
		})
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
			continue
		}
		changes, all := t.take(work, changes, maxWrites-t.len())
		before := view
		view = view.With(changes)
		for _, c := range differences(before, changes) {
			q.addConcerned(view, c)
		}
		if !all || t.len() >= maxWrites {
			first = 1
		}
		switch {
		case !all && at == 0:
			q.add(at, work.key)
		case !all:
			postponed = append(postponed, work)
		}
	}
	q.urgent = append(postponed, q.urgent...)
	return l.conclude(ctx, epoch, t, done, q)
}

// conclude commits what a pass has collected. What was not written is queued again.
func (l *Loop) conclude(ctx context.Context, epoch uint64, t *transaction, done []item, q *queue) ([]uint64, error) {
	c := commit{loop: l, transaction: t, epoch: epoch, tooLarge: map[item]bool{}}
	err := c.parts(ctx, t.ordered())
	switch {
	case err == nil:
		if len(c.revisions) > 0 && q.refusals.Succeeded() {
			l.cfg.Log.Info("changes of the controllers are written to the store again")
		}
		for _, work := range done {
			if c.tooLarge[work] {
				q.backOff(work, time.Now())
			} else {
				q.succeeded(work)
			}
		}
		return c.revisions, nil
	case store.IsConflict(err):
		// An object was written by someone else meanwhile. The short back-off below lets that change arrive in the view.
		l.cfg.Log.Debug("commit met a conflict", "err", err)
	case errors.Is(err, store.ErrFenced):
		return nil, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		if q.refusals.Failed(err, time.Now()) {
			l.cfg.Log.Warn("changes of the controllers cannot be written to the store; they are planned again", "err", err)
		}
	}
	backedOff := map[item]bool{} // what concerned itself was done twice
	for _, work := range done {
		if !backedOff[work] {
			backedOff[work] = true
			q.backOff(work, time.Now())
		}
	}
	return c.revisions, nil
}
