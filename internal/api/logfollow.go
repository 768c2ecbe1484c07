package api

import (
	"context"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	// logRetry is the pause before logs that broke off are asked for again.
	logRetry = 250 * time.Millisecond
	// logPatience is how long a node, or the leader, may be away before the reader is told.
	logPatience = 3 * time.Second
)

// logFollower follows the logs of tasks through all that may befall who sends them: tasks come and go, nodes are lost and come
// back, another manager comes to lead. Lines of one task have each a later time than the one before, so that the last one's time
// says where to go on.
type logFollower struct {
	source LogSource
	from   logSelection
	query  shoal.LogQuery
	again  chan struct{} // capacity 1: something has broken off or ended

	mu    sync.Mutex // guards all below, and keeps calls of write apart
	write func(shoal.LogLine) error
	tasks map[shoal.ID]*followedTask // nil before the first look
	away  map[shoal.ID]*absence      // nodes; "" is the leader
}

// followedTask is how far the log of a task has been read.
type followedTask struct {
	batch *logBatch // that asks for it now; nil for none
	late  bool      // was not there at first: all of its log is news
	over  bool      // nothing more can come
	last  time.Time // of its newest line
	retry time.Time // not before
}

// logBatch is one request to the source.
type logBatch struct {
	query shoal.LogQuery
	ended map[shoal.ID]bool // tasks that had ended before the request
}

// absence is a node that cannot be asked.
type absence struct {
	since time.Time
	told  bool
}

func newLogFollower(source LogSource, from logSelection, query shoal.LogQuery, write func(shoal.LogLine) error) *logFollower {
	return &logFollower{source: source, from: from, query: query, write: write, again: make(chan struct{}, 1),
		away: map[shoal.ID]*absence{}}
}

// run follows until ctx ends, the reader has gone, or nothing more can come.
func (f *logFollower) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel(nil)
	_, sub := f.from.store.Subscribe()
	defer sub.Close()
	changed := make(chan struct{}, 1)
	streams.Go(func() {
		for {
			if _, err := sub.Next(ctx); err != nil {
				return
			}
			poke(changed)
		}
	})
	for {
		batches, over, pause := f.next(f.from.store.View(), time.Now())
		for _, b := range batches {
			streams.Go(func() {
				if err := f.stream(ctx, b); err != nil {
					cancel(err)
				}
			})
		}
		if over {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-changed:
		case <-f.again:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// next is what to ask for now: the tasks that have not been read at all, as the query says, and those that broke off, from where
// they did. It tells too whether nothing can come any more, and when to look again.
func (f *logFollower) next(v store.View, now time.Time) (batches []*logBatch, over bool, pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.tasks == nil
	if first {
		f.tasks = map[shoal.ID]*followedTask{}
	}
	fresh, late, broken := f.batch(), f.batch(), f.batch()
	late.query.Tail, broken.query.Tail = -1, -1
	over, pause = f.from.task != "" || v.Service(f.from.service) == nil, time.Hour
	for _, t := range f.from.tasks(v) {
		at := f.tasks[t.ID]
		if at == nil {
			at = &followedTask{late: !first}
			f.tasks[t.ID] = at
		}
		over = over && at.over
		switch wait := at.retry.Sub(now); {
		case at.over || at.batch != nil || t.Status.Container == nil:
		case wait > 0:
			pause = min(pause, wait)
		case at.last.IsZero() && at.late:
			late.add(t, at)
		case at.last.IsZero():
			fresh.add(t, at)
		default:
			if broken.query.Since.IsZero() || len(broken.query.TaskIDs) == 0 || at.last.Before(broken.query.Since) {
				broken.query.Since = at.last
			}
			broken.add(t, at)
		}
	}
	for _, b := range []*logBatch{fresh, late, broken} {
		if len(b.query.TaskIDs) > 0 {
			batches = append(batches, b)
		}
	}
	return batches, over, pause
}

func (f *logFollower) batch() *logBatch {
	b := &logBatch{query: f.query, ended: map[shoal.ID]bool{}}
	b.query.TaskIDs = nil
	return b
}

func (b *logBatch) add(t *shoal.Task, at *followedTask) {
	b.query.TaskIDs = append(b.query.TaskIDs, t.ID)
	b.ended[t.ID] = t.Status.State.Ended()
	at.batch = b
}

// stream asks the source and notes what became of each task. Only the reader's going is an error.
func (f *logFollower) stream(ctx context.Context, b *logBatch) error {
	var gone error
	err := f.source(ctx, b.query, func(m shoal.LogLine) error {
		gone = f.take(b, m)
		return gone
	})
	if gone != nil || ctx.Err() != nil {
		return gone
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		gone = f.missLocked("", shoal.LogLine{Err: err.Error()})
	} else {
		delete(f.away, "")
	}
	for _, id := range b.query.TaskIDs {
		if at := f.tasks[id]; at.batch == b {
			// A log that ended before its task did was not begun yet.
			at.over = err == nil && b.ended[id]
			at.batch, at.retry = nil, time.Now().Add(logRetry)
		}
	}
	poke(f.again)
	return gone
}

// take hands a line on, unless it has been before.
func (f *logFollower) take(b *logBatch, m shoal.LogLine) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.Err != "" && m.TaskID == "":
		f.breakOffLocked(b, m.NodeID)
		return f.missLocked(m.NodeID, m)
	case m.Err != "":
		f.tasks[m.TaskID].over = true // there is no reading this one
		return f.write(m)
	}
	delete(f.away, m.NodeID)
	at := f.tasks[m.TaskID]
	if at.batch != b || !m.Time.After(at.last) {
		return nil
	}
	at.last = m.Time
	return f.write(m)
}

// breakOffLocked has the tasks of a lost node asked for again.
func (f *logFollower) breakOffLocked(b *logBatch, node shoal.ID) {
	v := f.from.store.View()
	for _, id := range b.query.TaskIDs {
		if t := v.Task(id); t != nil && t.NodeID == node && f.tasks[id].batch == b {
			f.tasks[id].batch, f.tasks[id].retry = nil, time.Now().Add(logRetry)
		}
	}
	poke(f.again)
}

// missLocked tells the reader once of a node that stays away.
func (f *logFollower) missLocked(node shoal.ID, m shoal.LogLine) error {
	a := f.away[node]
	if a == nil {
		a = &absence{since: time.Now()}
		f.away[node] = a
	}
	if a.told || time.Since(a.since) < logPatience {
		return nil
	}
	a.told = true
	return f.write(m)
}
