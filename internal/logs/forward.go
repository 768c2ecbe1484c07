package logs

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// forwarder hands the lines of a log on to a driver that keeps them elsewhere: first those of the files that were not sent, then those that are queued. It is safe
// for concurrent use.
type forwarder struct {
	log    *Log
	sender driver.Sender
	policy driver.Policy
	logger *slog.Logger
	id     string // of the container
	drops  bool   // what does not fit into the queue is not sent; else the container waits
	limit  int64  // bytes in the queue
	sent   *position
	from   time.Time // when it begins, the time of the last line sent
	until  time.Time // of the last line in the files when it begins; those after it are queued
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended
	parts  map[Stream]*driver.Parts

	ready chan struct{} // has an element when there may be something to do for run
	mu    sync.Mutex    // guards the fields below
	room  *sync.Cond    // the queue has become shorter, or waits for nothing more
	queue []Line
	size  int64 // bytes in the queue
	// exiting: the container has ended, so nothing waits. ended: no more lines come. stopped: nothing is sent any more. failing: the last try has failed.
	exiting, ended, stopped, failing bool
	dropped                          int // lines since the last one that was queued
}

// leavesOutLocked reports whether lines that find the queue full are not sent. Else the container waits.
func (f *forwarder) leavesOutLocked() bool { return f.drops || f.failing && !f.policy.Waits }

// wait waits until the queue is not full. If what does not fit is not sent, there is nothing to wait for; see docs/logs.md.
func (f *forwarder) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.size > f.limit && !f.leavesOutLocked() && !f.exiting && !f.stopped {
		f.room.Wait()
	}
}

// enqueue queues a line. If the queue is full the line may be left out. It does not wait: who writes lines does so after the last one that it has read, see wait.
func (f *forwarder) enqueue(line Line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := int64(len(line.Text))
	if f.size+n > f.limit && len(f.queue) > 0 && !f.exiting && f.leavesOutLocked() {
		f.dropped++
		if f.dropped == 1 {
			f.logger.Warn("log driver takes no more lines of a container; what it prints is not sent until there is room again", "container", f.id, "waiting bytes", f.size)
		}
		return
	}
	if f.stopped {
		return
	}
	if f.dropped > 0 {
		f.logger.Warn("lines of a container were not sent to its log driver", "container", f.id, "lines", f.dropped)
		f.dropped = 0
	}
	f.queue = append(f.queue, line)
	f.size += n
	f.wake()
}

// wake lets run look for something to do.
func (f *forwarder) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// set changes the state and wakes whoever waits for it.
func (f *forwarder) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.room.Broadcast()
	f.wake()
}

// exit lets nobody wait for room any more: the container's process has ended.
func (f *forwarder) exit() { f.set(func() { f.exiting = true }) }

// end tells that no more lines come.
func (f *forwarder) end() { f.set(func() { f.exiting, f.ended = true, true }) }

// next waits for a line. It is not ok when ctx has ended, or when there are and will be none.
func (f *forwarder) next(ctx context.Context) (line Line, ok bool) {
	for {
		line, ok, over := f.take()
		if ok || over {
			return line, ok
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
			return Line{}, false
		}
	}
}

// take takes the first line of the queue, if there is one. It is over when there will be none.
func (f *forwarder) take() (line Line, ok, over bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		f.queue = nil // so that the memory of a long one is given back
		return Line{}, false, f.ended
	}
	line = f.queue[0]
	f.queue = f.queue[1:]
	f.size -= int64(len(line.Text))
	f.room.Broadcast()
	return line, true, false
}

// run sends lines until all are sent after the log's end, or ctx has ended.
func (f *forwarder) run(ctx context.Context) {
	defer close(f.done)
	defer f.sent.close()
	defer f.sender.Close()
	defer f.set(func() { f.stopped, f.queue, f.size = true, nil, 0 })
	if f.until.After(f.from) {
		backlog := Query{Since: f.from.Add(1), Until: f.until, Tail: -1, Stdout: true, Stderr: true}
		err := f.log.read(ctx, backlog, func(line Line) error { return f.deliver(ctx, line) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.logger.Error("lines that a container has printed before cannot be read; they are not sent to its log driver", "container", f.id, "err", err)
		}
	}
	for {
		line, ok := f.next(ctx)
		if !ok || f.deliver(ctx, line) != nil {
			return
		}
	}
}

// deliver sends a line, as often as it takes, and notes that. An error is that of ctx.
func (f *forwarder) deliver(ctx context.Context, line Line) error {
	text := strings.TrimSuffix(line.Text, "\n")
	m := driver.Message{Text: []byte(text), Stderr: line.Stream == Stderr, Time: line.Time, Partial: f.parts[line.Stream].Next(text != line.Text)}
	for tries := 1; ; tries++ {
		err := f.sender.Send(ctx, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rejected := errors.Is(err, driver.ErrRejected)
		f.note(err, rejected)
		if err == nil || rejected || f.policy.Datagram && tries > 1 || f.policy.Tries > 0 && tries >= f.policy.Tries {
			f.sent.set(line.Time)
			return nil
		}
		if f.policy.Datagram {
			continue
		}
		if err := f.policy.Backoff(ctx, tries); err != nil {
			return err
		}
	}
}

// note records whether the collector can be reached, and logs when that changes.
func (f *forwarder) note(err error, rejected bool) {
	failing := err != nil && !rejected && !f.policy.Datagram
	f.mu.Lock()
	before := f.failing
	f.mu.Unlock()
	switch {
	case rejected:
		f.logger.Warn("a line of a container cannot be sent to its log driver; it is left out", "container", f.id, "err", err)
	case failing && !before:
		f.logger.Warn("lines of a container cannot be sent to its log driver; they wait, and it is tried again", "container", f.id, "err", err)
	case !failing && before:
		f.logger.Info("lines of a container are sent to its log driver again", "container", f.id)
	}
	if failing != before {
		f.set(func() { f.failing = failing })
	}
}

// stop ends the sending. It waits, as long as the collector can be reached, until what is queued was sent, for at most as long as given.
func (f *forwarder) stop(wait time.Duration) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	f.exit()
	if wait > 0 {
		f.set(func() { f.ended = true })
		f.drain(deadline.C)
	}
	f.cancel()
	<-f.done
}

// drain waits until all is sent, or the collector cannot be reached, or the deadline.
func (f *forwarder) drain(deadline <-chan time.Time) {
	failing := make(chan struct{})
	go func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for !f.failing && !f.stopped {
			f.room.Wait()
		}
		close(failing)
	}()
	select {
	case <-f.done:
	case <-failing:
	case <-deadline:
	}
}
