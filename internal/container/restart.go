package container

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Restart stops a container, if it runs, and starts it. The timeout and the signal are as for StopWith.
func (e *Engine) Restart(ctx context.Context, ref string, timeout time.Duration, sig string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	c.op.Lock()
	defer c.op.Unlock()
	// A container with AutoRemove is removed when it ends, which must not happen between its stop and its start.
	info, _ := c.snapshot()
	e.update(c, func(i *Info) { i.Spec.AutoRemove = false })
	defer e.update(c, func(i *Info) { i.Spec.AutoRemove = info.Spec.AutoRemove })
	if err := e.stopLocked(ctx, c, timeout, sig); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	if err := e.startLocked(ctx, c); err != nil {
		return err
	}
	e.publish("restart", c, nil)
	return nil
}

// The restart policy's delays, as in Docker: the delay doubles with each restart, and begins anew after a run that lasted.
const (
	firstRestartDelay = 100 * time.Millisecond
	maxRestartDelay   = time.Minute
	lastingRun        = 10 * time.Second
	longestStartDelay = 10 * time.Second // between attempts to start one that cannot be started
)

// restartAfter returns whether the restart policy starts a container again that has ended with this exit code, and after what delay.
func restartAfter(info Info, code int) (restart bool, delay time.Duration) {
	if info.Stopped {
		return false, 0
	}
	switch info.Spec.Restart.Name {
	case "always", "unless-stopped":
	case "on-failure":
		if code == 0 || info.Spec.Restart.MaxRetries > 0 && info.RestartCount >= info.Spec.Restart.MaxRetries {
			return false, 0
		}
	default:
		return false, 0
	}
	const maxDoublings = 10 // more than maxRestartDelay needs, and not enough to overflow
	delay = firstRestartDelay << min(info.RestartCount, maxDoublings)
	if time.Since(info.State.StartedAt) > lastingRun {
		delay = firstRestartDelay
	}
	return true, min(delay, maxRestartDelay)
}

// restartAfterWait starts a container after the delay, unless it is started, stopped or removed before.
func (e *Engine) restartAfterWait(c *container, delay time.Duration) {
	waiting, cancel := e.untilClosed()
	c.mu.Lock()
	c.cancelRestart = cancel
	c.mu.Unlock()
	e.inBackground(c, "restart", func() {
		defer cancel()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-waiting.Done():
			return
		case <-timer.C:
		}
		c.op.Lock()
		defer c.op.Unlock()
		if waiting.Err() != nil {
			return
		}
		ctx, endStart := e.untilClosed() // not the one of the wait, which startLocked ends
		defer endStart()
		if err := e.startLocked(ctx, c); err != nil && !errdefs.IsNotModified(err) && !c.isRemoved() {
			e.retryStart(c, err, delay)
		}
	})
}

// retryStart has a container tried again that its restart policy asked for and that could not be started, after twice the delay before this attempt. What
// it needs of the node may come yet: after a reboot a network of the cluster is known only once a manager has told of it. A command that cannot be executed
// stays so.
func (e *Engine) retryStart(c *container, cause error, delay time.Duration) {
	info, _ := c.snapshot()
	if startExitCode(cause) != exitNotStarted {
		e.Log.Warn("container cannot be restarted as its restart policy asks; it stays ended", "container", info.ID, "err", cause)
		return
	}
	delay = min(2*delay, longestStartDelay)
	e.Log.Warn("container cannot be restarted as its restart policy asks; it is tried again", "container", info.ID, "after", delay, "err", cause)
	e.update(c, func(i *Info) { i.State.Status = Restarting })
	e.restartAfterWait(c, delay)
}

// cancelRestartWait ends the wait of restartAfterWait, if there is one: the container is not started then.
func (c *container) cancelRestartWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelRestart != nil {
		c.cancelRestart()
		c.cancelRestart = nil
	}
}
