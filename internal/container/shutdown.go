package container

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// stopGrace is how much longer than the slowest container's own time a shutdown waits.
const stopGrace = 5 * time.Second

// StopAll stops all containers at once, for a daemon that ends and whose containers are not to outlive it. Each has its own signal and time; StopAll waits at least
// for limit, and longer if a container has more time; a negative limit is none. Restart policies apply at the next start, as if the containers had ended by themselves.
func (e *Engine) StopAll(ctx context.Context, limit time.Duration) {
	ctx = runtime.WithNamespace(ctx)
	all := e.List(nil)
	for _, info := range all {
		if own := info.Spec.StopTimeout; limit >= 0 && own+stopGrace > limit {
			limit = own + stopGrace
		}
	}
	if limit >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	var stopping sync.WaitGroup
	for _, info := range all {
		if running(info.State.Status) {
			stopping.Go(func() {
				fault.Do(e.Log, "stop of container "+info.ID, func() { e.stopForShutdown(ctx, info.ID) })
			})
		}
	}
	stopping.Wait()
}

func (e *Engine) stopForShutdown(ctx context.Context, id string) {
	c, err := e.find(id)
	if err != nil {
		return
	}
	c.op.Lock()
	defer c.op.Unlock()
	before, _ := c.snapshot()
	if err := e.stopLocked(ctx, c, 0, ""); err != nil && !errdefs.IsNotModified(err) {
		e.Log.Warn("a container could not be stopped; it runs on without the daemon", "container", id, "err", err)
		return
	}
	e.update(c, func(i *Info) { i.Stopped = before.Stopped })
}

// StopRestored stops the containers that have outlived the daemon before, for one whose containers are not to. Those with a restart policy are started again.
func (e *Engine) StopRestored(ctx context.Context, limit time.Duration) {
	outlived := e.List(nil)
	e.StopAll(ctx, limit)
	for _, info := range outlived {
		c, err := e.find(info.ID)
		if err != nil || !running(info.State.Status) {
			continue
		}
		if now, _ := c.snapshot(); now.State.Status == Exited {
			e.restoreContainer(runtime.WithNamespace(ctx), c)
		}
	}
}
