package agent

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// withdrawLimit bounds how long somebody who ends a container by hand is kept waiting.
const withdrawLimit = time.Second

// Withdraw takes the running task of a container out of every balancer, because somebody is about to end it by hand. It returns
// when that is done or has taken too long, and at once if the container is of no such task.
func (a *Agent) Withdraw(ctx context.Context, container string) {
	r := a.runnerOf(container)
	if r == nil || !r.withdraw() {
		return
	}
	limit := time.NewTimer(withdrawLimit)
	defer limit.Stop()
	select {
	case <-r.unused:
	case <-ctx.Done():
	case <-limit.C:
		a.cfg.Log.Warn("a container ends although some node may still balance to it", "container", container)
	}
}

// runnerOf finds the task that runs in a container.
func (a *Agent) runnerOf(container string) *runner {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.runners {
		if c := r.lastStatus().Container; c != nil && c.ContainerID == container {
			return r
		}
	}
	return nil
}

// withdraw reports that the task leaves, and tells whether it ran at all.
func (r *runner) withdraw() bool {
	r.mu.Lock()
	if r.status.State != shoal.TaskRunning {
		r.mu.Unlock()
		return false
	}
	r.status.Leaving = true
	r.mu.Unlock()
	r.agent.report(r)
	return true
}
