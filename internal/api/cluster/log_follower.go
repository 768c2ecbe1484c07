package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	// logRetryDelay is the pause before logs whose stream broke off are asked for again.
	logRetryDelay = 250 * time.Millisecond
	// logOutageLimit is how long a node, or the leader, may be unreachable before the reader gets a warning.
	logOutageLimit = 3 * time.Second
)

// logFollower follows the logs of tasks while tasks come and go, nodes are lost and come back, and the leader changes. Each line
// of a task has a later time than the one before it, so the time of the last line that was read tells where to go on after a
// stream broke off, and no line is lost or shown twice.
type logFollower struct {
	source LogSource
	from   logSelection
	query  shoal.LogQuery
	wake   chan struct{} // capacity 1: a stream has broken off or ended

	mu      sync.Mutex // guards all below; held while write is called, so that lines do not mix
	write   func(shoal.LogLine) error
	tasks   map[shoal.TaskID]*followedTask // nil before the first pass
	outages map[shoal.NodeID]*outage       // by node; "" is the leader
}

// followedTask is how far the log of a task has been read.
type followedTask struct {
	request *logRequest // the one that reads it now; nil if none does
	late    bool        // created after the follower began, so all of its log is to be shown
	ended   bool        // no more lines can come
	last    time.Time   // of its newest line
	retryAt time.Time
}

// logRequest is one request to the source, for several tasks.
type logRequest struct {
	query shoal.LogQuery
	ended map[shoal.TaskID]bool // tasks that had ended before the request
}

// outage is the time during which a node, or the leader, cannot be asked.
type outage struct {
	since    time.Time
	reported bool // the reader has had the warning
}

func newLogFollower(source LogSource, from logSelection, query shoal.LogQuery, write func(shoal.LogLine) error) *logFollower {
	return &logFollower{
		source: source, from: from, query: query, write: write, wake: make(chan struct{}, 1), outages: map[shoal.NodeID]*outage{},
	}
}

// run follows until ctx ends, the reader is gone, or no more lines can come.
func (f *logFollower) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel(nil)
	_, sub := f.from.store.Subscribe()
	defer sub.Close()
	changed := make(chan struct{}, 1)
	streams.Go(func() {
		cancel(fault.Contain(nil, "log follower", func() error {
			for {
				if _, err := sub.Next(ctx); err != nil {
					return err
				}
				notify(changed)
			}
		}))
	})
	for {
		requests, ended, pause := f.next(f.from.store.View(), time.Now())
		for _, req := range requests {
			streams.Go(func() {
				if err := fault.Contain(nil, "log follower", func() error { return f.stream(ctx, req) }); err != nil {
					cancel(err)
				}
			})
		}
		if ended {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-changed:
		case <-f.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// notify leaves a signal in a channel of capacity 1, unless there is one already.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// next returns the requests to make now: for tasks that have not been read at all, as the query says, and for those whose stream
// broke off, from their last line on. It also tells whether no more lines can come, and after what pause to call it again.
func (f *logFollower) next(v store.View, now time.Time) (requests []*logRequest, ended bool, pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.tasks == nil
	if first {
		f.tasks = map[shoal.TaskID]*followedTask{}
	}
	initial, late, resumed := f.newRequest(), f.newRequest(), f.newRequest()
	late.query.Tail, resumed.query.Tail = -1, -1
	ended, pause = f.from.task != "" || v.Service(f.from.service) == nil, time.Hour
	for _, t := range f.from.tasks(v) {
		followed := f.tasks[t.ID]
		if followed == nil {
			followed = &followedTask{late: !first}
			f.tasks[t.ID] = followed
		}
		ended = ended && followed.ended
		switch wait := followed.retryAt.Sub(now); {
		case followed.ended || followed.request != nil || t.Status.Container == nil:
		case wait > 0:
			pause = min(pause, wait)
		case followed.last.IsZero() && followed.late:
			late.add(t, followed)
		case followed.last.IsZero():
			initial.add(t, followed)
		default:
			resumed.addFrom(t, followed)
		}
	}
	for _, req := range []*logRequest{initial, late, resumed} {
		if len(req.query.TaskIDs) > 0 {
			requests = append(requests, req)
		}
	}
	return requests, ended, pause
}

func (f *logFollower) newRequest() *logRequest {
	req := &logRequest{query: f.query, ended: map[shoal.TaskID]bool{}}
	req.query.TaskIDs = nil
	return req
}

func (req *logRequest) add(t *shoal.Task, followed *followedTask) {
	req.query.TaskIDs = append(req.query.TaskIDs, t.ID)
	req.ended[t.ID] = t.Status.State.Ended()
	followed.request = req
}

// addFrom adds a task from its last line on. The request begins at the earliest of its tasks' last lines; what was read of the
// others after that is dropped when it comes again.
func (req *logRequest) addFrom(t *shoal.Task, followed *followedTask) {
	if req.query.Since.IsZero() || len(req.query.TaskIDs) == 0 || followed.last.Before(req.query.Since) {
		req.query.Since = followed.last
	}
	req.add(t, followed)
}

// stream makes a request and records for each task how it ended. The error is that of write: the reader is gone.
func (f *logFollower) stream(ctx context.Context, req *logRequest) error {
	var gone error
	err := f.source(ctx, req.query, func(m shoal.LogLine) error {
		gone = f.receive(req, m)
		return gone
	})
	if gone != nil || ctx.Err() != nil {
		return gone
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		gone = f.warnLocked("", shoal.LogLine{Err: err.Error()})
	} else {
		delete(f.outages, "")
	}
	for _, id := range req.query.TaskIDs {
		if followed := f.tasks[id]; followed.request == req {
			// If the task had not ended when the request was made, its log may not have been begun yet: it is asked for again.
			followed.ended = err == nil && req.ended[id]
			followed.request, followed.retryAt = nil, time.Now().Add(logRetryDelay)
		}
	}
	notify(f.wake)
	return gone
}

// receive writes a line, unless it has been written before.
func (f *logFollower) receive(req *logRequest, m shoal.LogLine) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.Err != "" && m.TaskID == "":
		f.retryNodeLocked(req, m.NodeID)
		return f.warnLocked(m.NodeID, m)
	case m.Err != "":
		f.tasks[m.TaskID].ended = true // this log cannot be read, now or later
		return f.write(m)
	}
	delete(f.outages, m.NodeID)
	followed := f.tasks[m.TaskID]
	if followed.request != req || !m.Time.After(followed.last) {
		return nil
	}
	followed.last = m.Time
	return f.write(m)
}

// retryNodeLocked has the tasks of a node that was lost during a request asked for again.
func (f *logFollower) retryNodeLocked(req *logRequest, node shoal.NodeID) {
	v := f.from.store.View()
	for _, id := range req.query.TaskIDs {
		if t := v.Task(id); t != nil && t.NodeID == node && f.tasks[id].request == req {
			f.tasks[id].request, f.tasks[id].retryAt = nil, time.Now().Add(logRetryDelay)
		}
	}
	notify(f.wake)
}

// warnLocked writes a warning about a node, or the leader, that stays unreachable, once in each outage.
func (f *logFollower) warnLocked(node shoal.NodeID, m shoal.LogLine) error {
	o := f.outages[node]
	if o == nil {
		o = &outage{since: time.Now()}
		f.outages[node] = o
	}
	if o.reported || time.Since(o.since) < logOutageLimit {
		return nil
	}
	o.reported = true
	return f.write(m)
}
