package container

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Pause freezes a running container. One that is paused or does not run is a conflict.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	return e.setPaused(ctx, ref, Running, Paused, "pause", client.Task.Pause)
}

// Unpause undoes Pause. A container that is not paused is a conflict.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	return e.setPaused(ctx, ref, Paused, Running, "unpause", client.Task.Resume)
}

// setPaused pauses or unpauses a container: do takes its task from one status to the other.
func (e *Engine) setPaused(ctx context.Context, ref string, from, to Status, action string, do func(client.Task, context.Context) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	info, task, ended := c.currentTask()
	switch {
	case task == nil:
		return notRunning(info)
	case info.State.Status == to && to == Paused:
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is already paused", info.ID))
	case info.State.Status != from:
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("Container %s is not paused", info.ID))
	}
	if err := do(task, runtime.WithNamespace(ctx)); err != nil {
		if endsSoon(ctx, ended) {
			return notRunning(info)
		}
		return fmt.Errorf("%s container %s: %w", action, info.ID, err)
	}
	e.update(c, func(i *Info) { i.State.Status = to })
	e.publish(action, c, nil)
	return nil
}

// exitWait is how long the news of a process's end may be on its way.
const exitWait = 2 * time.Second

// endsSoon tells whether a failed action may have failed because the container's process has just ended, and waits until that is recorded.
func endsSoon(ctx context.Context, ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	case <-ctx.Done():
	case <-time.After(exitWait):
	}
	return false
}
