package reconcile

import (
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/store"
)

// item is one controller's key.
type item struct {
	controller Controller
	key        Key
}

// queue holds each item at most once, in order of arrival, the work of earlier controllers first. It is not safe for
// concurrent use.
type queue struct {
	controllers []Controller
	urgent      []item  // come before all others
	waiting     [][]Key // by controller
	queued      []map[Key]bool
	due         map[item]time.Time
	failures    map[item]int
	refusals    store.Failures // of whole commits
}

func newQueue(controllers []Controller) *queue {
	q := &queue{controllers: controllers, due: map[item]time.Time{}, failures: map[item]int{}}
	q.waiting = make([][]Key, len(controllers))
	for range controllers {
		q.queued = append(q.queued, map[Key]bool{})
	}
	return q
}

func (q *queue) add(i int, key Key) {
	if !q.queued[i][key] {
		q.queued[i][key] = true
		q.waiting[i] = append(q.waiting[i], key)
	}
}

func (q *queue) addAll(v store.View) {
	for i, c := range q.controllers {
		for _, key := range c.All(v) {
			q.add(i, key)
		}
	}
}

func (q *queue) addConcerned(v store.View, change store.Change) {
	for i, c := range q.controllers {
		for _, key := range c.Concerned(v, change) {
			q.add(i, key)
		}
	}
}

// next is the next item of the controllers from the first on; at is the index of its controller.
func (q *queue) next(first int) (work item, at int, ok bool) {
	if len(q.urgent) > 0 {
		work, q.urgent = q.urgent[0], q.urgent[1:]
		return work, slices.Index(q.controllers, work.controller), true
	}
	for i := first; i < len(q.waiting); i++ {
		keys := q.waiting[i]
		if len(keys) == 0 {
			continue
		}
		q.waiting[i] = keys[1:]
		delete(q.queued[i], keys[0])
		return item{q.controllers[i], keys[0]}, i, true
	}
	return item{}, 0, false
}

func (q *queue) empty() bool {
	return len(q.urgent) == 0 && !slices.ContainsFunc(q.waiting, func(keys []Key) bool { return len(keys) > 0 })
}

// at asks for an item at a time, unless it is due earlier.
func (q *queue) at(work item, t time.Time) {
	if old, ok := q.due[work]; !ok || t.Before(old) {
		q.due[work] = t
	}
}

func (q *queue) backOff(work item, now time.Time) {
	pause := min(firstBackoff<<min(q.failures[work], 20), maxBackoff)
	q.failures[work]++
	q.at(work, now.Add(pause))
}

func (q *queue) succeeded(work item) { delete(q.failures, work) }

// addDue queues what is due.
func (q *queue) addDue(now time.Time) {
	for work, t := range q.due {
		if t.After(now) {
			continue
		}
		delete(q.due, work)
		for i, c := range q.controllers {
			if c == work.controller {
				q.add(i, work.key)
			}
		}
	}
}

// timer fires when the next item is due; never if there is none.
func (q *queue) timer() <-chan time.Time {
	var next time.Time
	for _, t := range q.due {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}
