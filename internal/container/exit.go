package container

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
)

// monitor waits for a task's end and cleans up after it. It returns at once when ctx ends, which is when the daemon stops: the
// container runs on.
func (e *Engine) monitor(ctx context.Context, c *container, task client.Task, exit <-chan client.ExitStatus) {
	status, ok := <-exit
	if !ok || ctx.Err() != nil {
		return
	}
	code, at := int(status.ExitCode()), status.ExitTime()
	if status.Error() != nil { // the shim was killed, and its container with it
		code, at = exitKilled, time.Now().UTC()
	}
	info, _ := c.snapshot()
	oom := code == exitKilled && cgroup.OOMKilled(e.cgroupPath(info))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	c.log.Exiting()
	awaitOutput(task.IO())
	if _, err := task.Delete(ctx, client.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("task of an ended container cannot be deleted; the container's next start may fail", "container", info.ID, "err", err)
	}
	e.handleExit(ctx, c, code, at, oom)
}

// handleExit cleans up after a container that ended, records how it ended, and restarts or removes it as its spec says. oom tells that
// the kernel killed it because memory ran out.
func (e *Engine) handleExit(ctx context.Context, c *container, code int, at time.Time, oom bool) {
	e.cleanUp(ctx, c)
	c.mu.Lock()
	c.task = nil
	ended := c.ended
	c.ended = nil
	info := c.info
	c.mu.Unlock()
	restart, delay := restartAfter(info, code)
	e.update(c, func(i *Info) {
		i.State.Status, i.State.PID, i.State.ExitCode, i.State.OOMKilled, i.State.FinishedAt = Exited, 0, code, oom, at.UTC()
		i.State.Error = ""
		if restart {
			i.State.Status = Restarting
			i.RestartCount++
		}
		if i.State.Health != nil && i.State.Health.Status == HealthStarting {
			i.State.Health.Status = Unhealthy
		}
	})
	c.log.End()
	c.streams.End()
	if ended != nil {
		close(ended)
	}
	if oom {
		e.publish("oom", c, nil)
	}
	e.publish("die", c, map[string]string{"exitCode": fmt.Sprint(code), "execDuration": fmt.Sprint(int(at.Sub(info.State.StartedAt).Seconds()))})
	switch {
	case restart:
		e.restartAfterWait(c, delay)
	case info.Spec.AutoRemove:
		e.inBackground(c, "removal", func() {
			if err := e.Remove(context.WithoutCancel(ctx), info.ID, true, true); err != nil && !errdefs.IsNotFound(err) {
				e.Log.Warn("container that is to be removed after its end cannot be removed; it stays", "container", info.ID, "err", err)
			}
		})
	}
}

// cleanUp removes what a start made besides the task: the network sandbox, containerd's record, the files of secrets and configs, and the
// cgroup. It also works when ctx has ended. What cannot be removed is logged.
func (e *Engine) cleanUp(ctx context.Context, c *container) {
	info, _ := c.snapshot()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := e.Network.Down(ctx, info.ID); err != nil {
		e.Log.Warn("network of an ended container cannot be removed; its namespace and addresses stay in use", "container", info.ID, "err", err)
	}
	if err := e.Runtime.Client.ContainerService().Delete(ctx, info.ID); err != nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("ended container stays registered with containerd; its next start replaces the registration", "container", info.ID, "err", err)
	}
	for _, name := range info.volumes() {
		e.Volumes.PublishUnmount(name, info.ID)
	}
	e.Runtime.ForgetShim(info.ID)
	e.removeFiles(info.ID)
	cgroup.Remove(e.cgroupPath(info))
}
