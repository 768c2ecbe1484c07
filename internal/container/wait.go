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
	NotRunning  Condition = "not-running" // true at once for a container that does not run
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
	info, startedAt := first, first.State.StartedAt
	for {
		ended := !running(info.State.Status) && info.State.Status != Restarting
		again := !info.State.StartedAt.Equal(startedAt) || running(first.State.Status)
		switch {
		case c.isRemoved():
			return info, nil
		case condition == NotRunning && ended:
			return info, nil
		case condition == NextExit && !running(info.State.Status) && (again && !info.State.FinishedAt.Equal(first.State.FinishedAt)):
			return info, nil
		case condition == WaitRemoved && info.State.Status == Created && info.State.Error != "" && first.State.Error == "":
			return info, nil // could not be started
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
