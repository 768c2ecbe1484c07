package container

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"github.com/moby/sys/signal"

	"github.com/shoal-dev/shoal/internal/runtime"
)

const (
	defaultStopTimeout = 10 * time.Second
	// killTimeout bounds the wait for a container to end after SIGKILL.
	killTimeout = 10 * time.Second
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

func (e *Engine) stopLocked(ctx context.Context, c *container, timeout time.Duration, sig string) error {
	c.cancelRetry()
	info, task, ended := c.currentTask()
	if task == nil {
		if info.State.Status == Restarting {
			e.update(c, func(i *Info) { i.State.Status, i.Stopped = Exited, true })
			return nil
		}
		return errdefs.ErrNotModified.WithMessage("container already stopped")
	}
	e.update(c, func(i *Info) { i.Stopped = true })
	if timeout == 0 {
		timeout = info.Spec.StopTimeout
	}
	if timeout == 0 {
		timeout = defaultStopTimeout
	}
	stopSignal, err := parseSignal(cmp.Or(sig, info.StopSignal, "SIGTERM"))
	if err != nil {
		return err
	}
	if info.State.Status == Paused {
		_ = task.Resume(ctx)
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
		if err := sendSignal(ctx, task, syscall.SIGKILL, client.WithKillAll); err != nil {
			return fmt.Errorf("kill container %s: %w", info.ID, err)
		}
		if !waitFor(ctx, ended, killTimeout) {
			return fmt.Errorf("container %s does not end after SIGKILL: %w", info.ID, errdefs.ErrUnavailable)
		}
	}
	e.publish("stop", c, nil)
	return nil
}

// sendSignal signals a task. A task that has ended meanwhile is no error: the caller waits for its end anyway.
func sendSignal(ctx context.Context, task client.Task, s syscall.Signal, opts ...client.KillOpts) error {
	err := task.Kill(ctx, s, opts...)
	// containerd returns a closed connection as text, so it cannot be compared with errors.Is.
	if errdefs.IsNotFound(err) || err != nil && strings.HasSuffix(err.Error(), ttrpc.ErrClosed.Error()) {
		return nil
	}
	return err
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

func (c *container) currentTask() (Info, client.Task, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info, c.task, c.ended
}

func parseSignal(name string) (syscall.Signal, error) {
	s, err := signal.ParseSignal(name)
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return s, nil
}

// Kill sends a container a signal, by name or number; "" means SIGKILL. After SIGKILL it waits for the container's end. A container
// that does not run is a conflict, an unknown signal an invalid argument.
func (e *Engine) Kill(ctx context.Context, ref, sig string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	s, err := parseSignal(cmp.Or(sig, "SIGKILL"))
	if err != nil {
		return err
	}
	info, task, ended := c.currentTask()
	if task == nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, notRunning(info))
	}
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		e.update(c, func(i *Info) { i.Stopped = true })
	}
	e.publish("kill", c, map[string]string{"signal": fmt.Sprint(int(s))})
	if s == syscall.SIGKILL && info.State.Status == Paused {
		_ = task.Resume(ctx)
	}
	if err := sendSignal(ctx, task, s); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	if s == syscall.SIGKILL && !waitFor(ctx, ended, killTimeout) {
		return fmt.Errorf("container %s does not end after SIGKILL: %w", info.ID, errdefs.ErrUnavailable)
	}
	return nil
}

// Restart stops a container, if it runs, and starts it. The timeout is as for Stop.
func (e *Engine) Restart(ctx context.Context, ref string, timeout time.Duration) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	c.op.Lock()
	defer c.op.Unlock()
	// Stopping would otherwise remove a container that has AutoRemove set.
	info, _ := c.snapshot()
	e.update(c, func(i *Info) { i.Spec.AutoRemove = false })
	defer e.update(c, func(i *Info) { i.Spec.AutoRemove = info.Spec.AutoRemove })
	if err := e.stopLocked(ctx, c, timeout, ""); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	if err := e.startLocked(ctx, c); err != nil {
		return err
	}
	e.publish("restart", c, nil)
	return nil
}

// Pause freezes a running container. One that is paused or does not run is a conflict.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	return e.setPaused(ctx, ref, Running, Paused, "pause", client.Task.Pause)
}

// Unpause undoes Pause. A container that is not paused is a conflict.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	return e.setPaused(ctx, ref, Paused, Running, "unpause", client.Task.Resume)
}

func (e *Engine) setPaused(ctx context.Context, ref string, from, to Status, action string, do func(client.Task, context.Context) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	info, task, _ := c.currentTask()
	switch {
	case task == nil:
		return notRunning(info)
	case info.State.Status == to && to == Paused:
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is already paused", info.ID))
	case info.State.Status != from:
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("Container %s is not paused", info.ID))
	}
	if err := do(task, runtime.WithNamespace(ctx)); err != nil {
		return fmt.Errorf("%s container %s: %w", action, info.ID, err)
	}
	e.update(c, func(i *Info) { i.State.Status = to })
	e.publish(action, c, nil)
	return nil
}

// Remove deletes a container, and with volumes also its anonymous volumes that no other container uses. A running container is
// killed with force, and a conflict without.
func (e *Engine) Remove(ctx context.Context, ref string, force, volumes bool) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	c.cancelRetry()
	if force { // before taking the lock, so that a stop that waits with the lock held ends
		if _, task, _ := c.currentTask(); task != nil {
			e.update(c, func(i *Info) { i.Stopped = true })
			_ = task.Kill(ctx, syscall.SIGKILL, client.WithKillAll)
		}
	}
	c.op.Lock()
	defer c.op.Unlock()
	if c.isRemoved() {
		return noSuchContainer(ref)
	}
	info, task, ended := c.currentTask()
	if task != nil {
		if !force {
			state := "running"
			if info.State.Status == Paused {
				state = "paused"
			}
			return errdefs.ErrConflict.WithMessage(fmt.Sprintf("cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+info.Name, state))
		}
		e.update(c, func(i *Info) { i.Stopped = true })
		if info.State.Status == Paused {
			_ = task.Resume(ctx)
		}
		if err := sendSignal(ctx, task, syscall.SIGKILL, client.WithKillAll); err != nil {
			return fmt.Errorf("kill container %s: %w", info.ID, err)
		}
		if !waitFor(ctx, ended, killTimeout) {
			return fmt.Errorf("container %s does not end after SIGKILL: %w", info.ID, errdefs.ErrUnavailable)
		}
	}
	return e.removeLocked(ctx, c, volumes)
}

// removeLocked removes a container that does not run. Its op lock is held.
func (e *Engine) removeLocked(ctx context.Context, c *container, volumes bool) error {
	info, _ := c.snapshot()
	c.mu.Lock()
	c.removed = true
	c.mu.Unlock()
	e.mu.Lock()
	delete(e.byID, info.ID)
	if e.names[info.Name] == info.ID {
		delete(e.names, info.Name)
	}
	e.mu.Unlock()
	for _, m := range info.Mounts {
		if m.Type != "volume" {
			continue
		}
		e.Volumes.RemoveReference(m.Name, info.ID)
		if v, err := e.Volumes.Get(m.Name); volumes && err == nil && v.Anonymous && len(e.Volumes.Users(m.Name)) == 0 {
			if err := e.Volumes.Remove(m.Name, false); err != nil {
				e.Log.Warn("anonymous volume cannot be removed", "volume", m.Name, "err", err)
			}
		}
	}
	c.log.End()
	if err := e.snapshotter().Remove(context.WithoutCancel(ctx), info.ID); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot of %s: %w", info.ID, err)
	}
	if err := os.RemoveAll(info.Dir); err != nil {
		return fmt.Errorf("remove container %s: %w", info.ID, err)
	}
	e.publish("destroy", c, nil)
	e.update(c, func(i *Info) { i.State.Status = Removing })
	return nil
}

// Condition is what Wait waits for, in the words of Docker's API.
type Condition string

const (
	NotRunning  Condition = "not-running" // true at once for a container that does not run
	NextExit    Condition = "next-exit"   // the first exit after the call
	WaitRemoved Condition = "removed"     // removed, or failed to start
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
