package container

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Condition is what Wait waits for, in the words of Docker's API.
type Condition string

// The conditions of Wait.
const (
	NotRunning  Condition = "not-running" // the next exit of one that runs, also if it is restarted; true at once for one that does not run
	NextExit    Condition = "next-exit"   // the first exit after the call
	WaitRemoved Condition = "removed"     // the container is removed, or could not be started
)

// Wait blocks until a container meets the condition and returns its record at that moment. ready, unless nil, is called once no exit
// can be missed any more. The error is that of ctx, or of kind unavailable when the Engine is closed.
func (e *Engine) Wait(ctx context.Context, ref string, condition Condition, ready func()) (Info, error) {
	c, err := e.find(ref)
	if err != nil {
		return Info{}, err
	}
	first, changed := c.snapshot()
	if ready != nil {
		ready()
	}
	info := first
	for {
		if c.isRemoved() || condition.met(first.State, info.State) {
			return info, nil
		}
		select {
		case <-changed:
			info, changed = c.snapshot()
		case <-ctx.Done():
			return Info{}, ctx.Err()
		case <-e.closing:
			return Info{}, fmt.Errorf("daemon is shutting down: %w", errdefs.ErrUnavailable)
		}
	}
}

// met reports whether a container that still exists meets the condition, given its state when the wait began and now.
func (c Condition) met(first, now State) bool {
	switch c {
	case NotRunning:
		if running(first.Status) || first.Status == Restarting {
			// A restart policy may have started it again since, or be about to.
			return !now.FinishedAt.Equal(first.FinishedAt) || !running(now.Status) && now.Status != Restarting
		}
		return !running(now.Status) && now.Status != Restarting
	case NextExit:
		// A start that fails also sets FinishedAt, but then nothing has run.
		hasRun := running(first.Status) || !now.StartedAt.Equal(first.StartedAt)
		return hasRun && !running(now.Status) && !now.FinishedAt.Equal(first.FinishedAt)
	case WaitRemoved:
		return now.Status == Created && now.Error != "" && first.Error == "" // could not be started
	}
	return false
}
