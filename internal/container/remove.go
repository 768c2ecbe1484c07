package container

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Remove deletes a container, and with volumes also its anonymous volumes that no other container uses. A running container is
// killed with force, and a conflict without.
func (e *Engine) Remove(ctx context.Context, ref string, force, volumes bool) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	if info, _ := c.snapshot(); !force && info.State.Status == Restarting {
		return mustStopFirst(info, "restarting")
	}
	c.cancelRestartWait()
	if force { // before the lock is taken, because a stop holds it while it waits for the container's end
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
			return mustStopFirst(info, state)
		}
		e.update(c, func(i *Info) { i.Stopped = true })
		if info.State.Status == Paused {
			_ = task.Resume(ctx)
		}
		if err := killAll(ctx, info, task, ended); err != nil {
			return err
		}
	}
	return e.removeLocked(ctx, c, volumes)
}

func mustStopFirst(info Info, state string) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+info.Name, state))
}

// forget removes the container's record from the disk. After an error the container is there as before.
func (c *container) forget() error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	info, _ := c.snapshot()
	if err := atomicfile.RemoveAll(filepath.Join(info.Dir, recordFile)); err != nil {
		c.flushed = 0 // it may be gone: the next change writes it again
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = true
	return nil
}

// removeLocked removes a container that does not run. Its op lock is held. Its record goes first, and with it the container: whatever a crash leaves of the
// rest is removed at the next start.
func (e *Engine) removeLocked(ctx context.Context, c *container, volumes bool) error {
	c.log.Drain()
	info, _ := c.snapshot()
	if err := c.forget(); err != nil {
		return fmt.Errorf("remove container %s: %w", info.ID, err)
	}
	e.mu.Lock()
	delete(e.byID, info.ID)
	maps.DeleteFunc(e.execs, func(_ string, x *Exec) bool { return x.ContainerID == info.ID })
	if e.names[info.Name] == info.ID {
		delete(e.names, info.Name)
	}
	e.mu.Unlock()
	for _, name := range info.volumes() {
		e.Volumes.RemoveReference(name, info.ID)
		if v, err := e.Volumes.Get(name); volumes && err == nil && v.Anonymous && len(e.Volumes.Users(name)) == 0 {
			if err := e.Volumes.Remove(name, false); err != nil {
				e.Log.Warn("anonymous volume of a removed container cannot be removed; it stays until it is pruned", "volume", name, "err", err)
			}
		}
	}
	c.log.End()
	e.removeImageMounts(ctx, info.ID)
	if err := e.snapshotter().Remove(context.WithoutCancel(ctx), info.ID); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot of %s: %w", info.ID, err)
	}
	if err := atomicfile.RemoveAll(info.Dir); err != nil {
		return fmt.Errorf("remove container %s: %w", info.ID, err)
	}
	e.publish("destroy", c, nil)
	e.update(c, func(i *Info) { i.State.Status = Removing })
	return nil
}
