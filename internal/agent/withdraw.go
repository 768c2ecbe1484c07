package agent

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// withdrawTimeout bounds how long a user who stops a task's container by hand is kept waiting.
const withdrawTimeout = time.Second

// Withdraw takes a running task out of all balancers, because a user is about to stop its container by hand. It returns when that
// is done, after withdrawTimeout, or at once if the container does not belong to a running task.
func (a *Agent) Withdraw(ctx context.Context, container string) {
	r := a.runnerOf(container)
	if r == nil || !r.withdraw() {
		return
	}
	limit := time.NewTimer(withdrawTimeout)
	defer limit.Stop()
	select {
	case <-r.drained:
	case <-ctx.Done():
	case <-limit.C:
		a.cfg.Log.Warn("not all nodes have confirmed in time that they send a container no more connections; it is ended by hand now, and requests to it may fail", "container", container)
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

// withdraw reports that the task is leaving; it returns false if the task does not run.
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
