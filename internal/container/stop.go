package container

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/runtime"
)

const (
	defaultStopTimeout = 10 * time.Second // Docker's
	killTimeout        = 10 * time.Second // the longest wait for a container to end after SIGKILL
)

// Stop sends a container its stop signal and, after the timeout, SIGKILL, and returns when it has ended. A zero timeout means the
// container's own (Docker's ten seconds by default); a negative one waits for ever. A container that does not run gives a not
// modified error.
func (e *Engine) Stop(ctx context.Context, ref string, timeout time.Duration) error {
	return e.StopWith(ctx, ref, timeout, "")
}

// StopWith is Stop with another signal, by name or number; "" means the container's own. An unknown signal is an invalid argument.
func (e *Engine) StopWith(ctx context.Context, ref string, timeout time.Duration, sig string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	return e.stopLocked(runtime.WithNamespace(ctx), c, timeout, sig)
}

// stopLocked stops a container whose op lock is held.
func (e *Engine) stopLocked(ctx context.Context, c *container, timeout time.Duration, sig string) error {
	c.cancelRestartWait()
	info, task, ended := c.currentTask()
	if task == nil {
		if info.State.Status == Restarting {
			e.update(c, func(i *Info) { i.State.Status, i.Stopped = Exited, true })
			return nil
		}
		return errdefs.ErrNotModified.WithMessage("container already stopped")
	}
	e.update(c, func(i *Info) { i.Stopped = true })
	timeout = cmp.Or(timeout, info.Spec.StopTimeout, defaultStopTimeout)
	stopSignal, err := parseSignal(cmp.Or(sig, info.StopSignal, "SIGTERM"))
	if err != nil {
		return err
	}
	if info.State.Status == Paused {
		_ = task.Resume(ctx) // a frozen process receives no signal; if this fails, SIGKILL follows
	}
	e.publish("kill", c, map[string]string{"signal": fmt.Sprint(int(stopSignal))})
	if err := sendSignal(ctx, task, stopSignal); err != nil {
		return fmt.Errorf("stop container %s: %w", info.ID, err)
	}
	if !waitFor(ctx, ended, timeout) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.publish("kill", c, map[string]string{"signal": "9"})
		if err := killAll(ctx, info, task, ended); err != nil {
			return err
		}
	}
	e.publish("stop", c, nil)
	return nil
}

// waitFor waits for done to be closed. It returns false after the timeout (a negative one means none) or when ctx ends.
func waitFor(ctx context.Context, done <-chan struct{}, timeout time.Duration) bool {
	var expired <-chan time.Time
	if timeout >= 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-done:
		return true
	case <-expired:
	case <-ctx.Done():
	}
	return false
}
