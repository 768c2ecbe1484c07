package quarantine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
)

// The pauses between attempts double from the first to the longest.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// trouble is a part of the node that cannot be had now.
type trouble struct {
	err   error
	try   func(context.Context) error // nil if somebody else tries
	pause time.Duration
	next  time.Time
}

// Note lists a part of the node among the problems because of err, or takes it out if err is nil. Whoever calls it tries the part again. The log tells
// of every change. The part is named as a user knows it, such as "volume data".
func (q *Quarantine) Note(part string, err error) { q.note(part, err, nil) }

// Retry lists a part of the node among the problems because of cause, and has Run try it again, at growing intervals, until try succeeds. It returns at
// once.
func (q *Quarantine) Retry(part string, cause error, try func(context.Context) error) {
	q.note(part, cause, &trouble{err: cause, try: try, pause: firstPause, next: time.Now().Add(firstPause)})
	select {
	case q.added <- struct{}{}:
	default: // Run will look anyway
	}
}

func (q *Quarantine) note(part string, err error, fresh *trouble) {
	q.mu.Lock()
	was := q.troubles[part]
	switch {
	case err == nil:
		delete(q.troubles, part)
	case fresh != nil:
		q.troubles[part] = fresh
	case was != nil:
		was.err = err
	default:
		q.troubles[part] = &trouble{err: err}
	}
	before := ""
	if was != nil {
		before = was.err.Error()
	}
	q.mu.Unlock()
	switch {
	case err == nil && was != nil:
		q.log.Info("part of the node works again", "part", part)
	case err != nil && err.Error() != before:
		q.log.Error("part of the node does not work; the rest does, and it is tried again", "part", part, "err", err)
	}
}

// Guard calls f and makes its panic an error, with the stack: a fault of ours that a record brings out must not end the daemon at every start.
func Guard(f func() error) error {
	err := fault.Contain(slog.New(slog.DiscardHandler), "", f)
	if contained, ok := errors.AsType[*fault.Error](err); ok {
		return fmt.Errorf("%w\n%s", err, contained.Stack)
	}
	return err
}

// Run tries again what Retry was told of, until ctx ends.
func (q *Quarantine) Run(ctx context.Context) error {
	for {
		wait := q.tryDue(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-q.added:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tryDue tries what is due, one after the other, and returns how long nothing is.
func (q *Quarantine) tryDue(ctx context.Context) time.Duration {
	q.mu.Lock()
	all := maps.Clone(q.troubles)
	q.mu.Unlock()
	wait := longestPause
	for _, part := range slices.Sorted(maps.Keys(all)) {
		t := all[part]
		if t.try == nil || ctx.Err() != nil {
			continue
		}
		if due := time.Until(t.next); due > 0 {
			wait = min(wait, due)
			continue
		}
		err := Guard(func() error { return t.try(ctx) })
		t.pause = min(2*t.pause, longestPause)
		t.next = time.Now().Add(t.pause)
		wait = min(wait, t.pause)
		q.note(part, err, nil)
	}
	return wait
}

// troubleProblemsLocked describes what cannot be had now.
func (q *Quarantine) troubleProblemsLocked() []string {
	var all []string
	for _, part := range slices.Sorted(maps.Keys(q.troubles)) {
		all = append(all, fmt.Sprintf("%s does not work, and is tried again: %s", part, q.troubles[part].err))
	}
	return all
}
