package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// drainTimeout bounds the wait for all balancers to drop a task before it is stopped. It is longer than the leader waits for a node whose daemon is away.
const drainTimeout = 15 * time.Second

// runner takes one task through its states.
type runner struct {
	agent *Agent
	found *TaskContainer // the container of an earlier life of the daemon

	mu     sync.Mutex // guards task, status
	task   *shoal.Task
	status shoal.TaskStatus

	drained     chan struct{} // closed by markDrained once no balancer uses the task
	drainedOnce sync.Once
	wake        chan struct{} // capacity 1: desired state changed
	unassign    context.CancelCauseFunc
}

// errUnassigned is the cause with which a runner is cancelled when its task is no longer assigned: then its container is removed.
// A runner that ends for another reason, such as the end of the daemon, leaves the container running.
var errUnassigned = errors.New("task is no longer assigned")

// assign starts, updates and ends runners as the manager's assignment says. A full assignment also removes the containers of tasks
// that it does not list.
func (a *Agent) assign(ctx context.Context, tasks *rpc.Tasks) error {
	var found map[shoal.TaskID]*TaskContainer
	if tasks.Full {
		list, err := a.cfg.Runtime.Tasks(ctx)
		if err != nil {
			return fmt.Errorf("list containers of tasks: %w", err)
		}
		found = make(map[shoal.TaskID]*TaskContainer, len(list))
		for i := range list {
			found[list[i].TaskID] = &list[i]
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keepDependenciesLocked(tasks)
	named := make(map[shoal.TaskID]bool, len(tasks.Put))
	for i := range tasks.Put {
		task := &tasks.Put[i]
		named[task.ID] = true
		if task.Spec.Attachment != nil {
			continue // an address for a plain container, which the agent does not run
		}
		if r, ok := a.runners[task.ID]; ok {
			r.setTask(task)
			continue
		}
		a.startRunnerLocked(ctx, task, found[task.ID])
	}
	for _, id := range tasks.Removed {
		a.unassignLocked(id)
	}
	if tasks.Full {
		for id := range a.runners {
			if !named[id] {
				a.unassignLocked(id)
			}
		}
		for id, f := range found {
			if !named[id] {
				a.removeStray(ctx, f)
			}
		}
	}
	a.dropDependenciesLocked()
	return nil
}

// dropDependenciesLocked removes secrets and configs that no task of the node refers to any more.
func (a *Agent) dropDependenciesLocked() {
	secrets, configs := map[shoal.SecretID]bool{}, map[shoal.ConfigID]bool{}
	for _, r := range a.runners {
		if c := r.current().Spec.Container; c != nil {
			for _, ref := range c.Secrets {
				secrets[ref.ID] = true
			}
			for _, ref := range c.Configs {
				configs[ref.ID] = true
			}
		}
	}
	maps.DeleteFunc(a.deps.Secrets, func(id shoal.SecretID, _ shoal.Secret) bool { return !secrets[id] })
	maps.DeleteFunc(a.deps.Configs, func(id shoal.ConfigID, _ shoal.Config) bool { return !configs[id] })
}

func (a *Agent) keepDependenciesLocked(tasks *rpc.Tasks) {
	for _, s := range tasks.Secrets {
		a.deps.Secrets[s.ID] = s
	}
	for _, c := range tasks.Configs {
		a.deps.Configs[c.ID] = c
	}
}

func (a *Agent) startRunnerLocked(ctx context.Context, task *shoal.Task, found *TaskContainer) {
	if found == nil && task.Status.State.Ended() {
		return // it ended and was cleaned up before the daemon was restarted
	}
	assigned, unassign := context.WithCancelCause(ctx)
	r := &runner{agent: a, found: found, task: task, status: task.Status, unassign: unassign,
		drained: make(chan struct{}), wake: make(chan struct{}, 1)}
	a.runners[task.ID] = r
	a.tasks.Go(func() {
		if err := fault.Contain(a.cfg.Log, "task "+string(task.ID), func() error { r.run(assigned); return nil }); err != nil {
			r.setStatus(shoal.TaskFailed, "failed", err, nil) // the managers replace it
			<-assigned.Done()
		}
		if errors.Is(context.Cause(assigned), errUnassigned) {
			fault.Do(a.cfg.Log, "end of task "+string(task.ID), func() { r.cleanUp(ctx) })
		}
	})
}

// unassignLocked ends the runner of a task that is no longer assigned; the runner stops and removes the container.
func (a *Agent) unassignLocked(id shoal.TaskID) {
	if r, ok := a.runners[id]; ok {
		delete(a.runners, id)
		delete(a.reports, id)
		r.unassign(errUnassigned)
	}
}

func (a *Agent) removeStray(ctx context.Context, f *TaskContainer) {
	a.tasks.Go(func() {
		a.cfg.Log.Info("remove container of a task that is not assigned", "task", f.TaskID, "container", f.ContainerID)
		fault.Do(a.cfg.Log, "removal of a task's container", func() {
			a.awaitTables(ctx)
			a.remove(ctx, f.ContainerID)
		})
	})
}

func (a *Agent) handleDrained(ids []shoal.TaskID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if r, ok := a.runners[id]; ok {
			r.markDrained()
		}
	}
}

// markDrained records that no balancer uses the task any more.
func (r *runner) markDrained() { r.drainedOnce.Do(func() { close(r.drained) }) }

func (r *runner) setTask(task *shoal.Task) {
	r.mu.Lock()
	r.task = task
	r.mu.Unlock()
	wake(r.wake)
}

func (r *runner) lastStatus() shoal.TaskStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

func (r *runner) current() *shoal.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.task
}

func (r *runner) stopping() bool { return !r.current().Wanted() }

// setStatus records a new state and reports it. err and container may be nil; without container the last one is kept.
func (r *runner) setStatus(state shoal.TaskState, message string, err error, container *shoal.ContainerStatus) {
	defer r.agent.report(r)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setStatusLocked(state, message, container)
	if err != nil {
		r.status.Err = err.Error()
	}
}

func (r *runner) setStatusLocked(state shoal.TaskState, message string, container *shoal.ContainerStatus) {
	if container == nil {
		container = r.status.Container
	}
	r.status = shoal.TaskStatus{State: state, Timestamp: time.Now(), Message: message, Container: container, Ports: r.status.Ports}
	if state == shoal.TaskRunning {
		r.status.Ports = r.task.Ports
	}
}

// run takes the task from its present state to its end, and then waits until it is unassigned or the daemon ends.
func (r *runner) run(ctx context.Context) {
	container, ok := r.prepare(ctx)
	if ok && r.start(ctx, container) {
		r.supervise(ctx, container)
	}
	<-ctx.Done()
}

// prepare creates the task's container, unless there is one from before a restart of the daemon. ok is false if the task is not to
// go on; its status has then been reported.
func (r *runner) prepare(ctx context.Context) (container string, ok bool) {
	if r.found != nil {
		return r.found.ContainerID, true
	}
	if r.stopping() {
		r.setStatus(shoal.TaskShutdown, "shutdown", nil, nil)
		return "", false
	}
	r.setStatus(shoal.TaskPreparing, "preparing", nil, nil)
	container, err := r.agent.cfg.Runtime.Prepare(ctx, r.current(), r.agent.dependencies())
	switch {
	case ctx.Err() != nil:
		return "", false
	case err != nil:
		r.setStatus(shoal.TaskRejected, "preparing", err, nil)
		return "", false
	}
	r.mu.Lock()
	r.found = &TaskContainer{TaskID: r.task.ID, ContainerID: container}
	r.mu.Unlock()
	return container, true
}

func (a *Agent) dependencies() Dependencies {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Dependencies{Secrets: maps.Clone(a.deps.Secrets), Configs: maps.Clone(a.deps.Configs), Networks: a.networks}
}

// start starts the container once the desired state is Running, and returns true when it is healthy, or is to stop before that.
func (r *runner) start(ctx context.Context, container string) bool {
	info := &shoal.ContainerStatus{ContainerID: container}
	if r.found.Started {
		info.PID = r.found.PID
		if !r.found.Running {
			r.reportExit(r.found.Exit, info)
			return false
		}
	} else {
		for r.current().DesiredState < shoal.TaskRunning {
			if r.lastStatus().State < shoal.TaskReady {
				r.setStatus(shoal.TaskReady, "prepared", nil, info)
			}
			if !r.awaitChange(ctx) {
				return false
			}
		}
		if r.stopping() {
			r.setStatus(shoal.TaskShutdown, "shutdown", nil, info)
			return false
		}
		r.setStatus(shoal.TaskStarting, "starting", nil, info)
		pid, err := r.agent.cfg.Runtime.Start(ctx, container)
		if err != nil {
			if ctx.Err() == nil {
				r.setStatus(shoal.TaskFailed, "starting", fmt.Errorf("starting container failed: %w", err), info)
			}
			return false
		}
		info = &shoal.ContainerStatus{ContainerID: container, PID: pid}
	}
	return r.awaitHealthy(ctx, container, info)
}

// awaitHealthy waits until a started task passes its health check, fails it, or is to stop. Only a task that has passed is reported
// as Running. It returns false only when ctx has ended.
func (r *runner) awaitHealthy(ctx context.Context, container string, info *shoal.ContainerStatus) bool {
	checked, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan error, 1)
	go func() {
		result <- fault.Contain(r.agent.cfg.Log, "health of a task", func() error { return r.agent.cfg.Runtime.Healthy(checked, container, r.current()) })
	}()
	for {
		select {
		case <-ctx.Done():
			return false
		case err := <-result:
			switch {
			case err == nil && r.readyCheck() == nil:
				r.setStatus(shoal.TaskRunning, "started", nil, info)
			case err != nil || r.lastStatus().State < shoal.TaskRunning: // not if it already ran before a restart of the daemon
				r.setStatus(shoal.TaskStarting, "starting", nil, info) // supervise reports the failure, or readiness
			}
			return true
		case <-r.wake:
			if r.stopping() {
				return true
			}
		}
	}
}

// supervise waits for the container's end and reports it. When the task is to stop, it waits until no balancer uses the task (at
// most drainTimeout) and then stops the container.
func (r *runner) supervise(ctx context.Context, container string) {
	waited, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting()
	type outcome struct {
		exit Exit
		err  error
	}
	end := make(chan outcome, 1)
	go func() {
		var o outcome
		o.err = fault.Contain(r.agent.cfg.Log, "wait for a task", func() (err error) {
			o.exit, err = r.agent.cfg.Runtime.Wait(waited, container)
			return err
		})
		end <- o
	}()
	if check := r.readyCheck(); check != nil {
		r.agent.tasks.Go(func() {
			fault.Do(r.agent.cfg.Log, "readiness of a task", func() { r.watchReadiness(waited, container, *check) })
		})
	}
	var unused <-chan struct{}
	var limit <-chan time.Time
	for {
		if r.stopping() {
			if !r.hasRun() {
				r.markDrained() // balancers only use running tasks
			}
			unused = r.drained
			if limit == nil {
				limit = time.After(drainTimeout)
			}
		}
		select {
		case <-ctx.Done():
			return
		case o := <-end:
			if o.err != nil {
				if ctx.Err() == nil {
					r.setStatus(shoal.TaskFailed, "failed", o.err, nil)
				}
				return
			}
			if o.exit.Unhealthy {
				if err := r.agent.cfg.Runtime.Stop(ctx, container, r.current()); err != nil {
					r.agent.cfg.Log.Error("unhealthy container cannot be stopped; its replacement starts all the same", "container", container, "err", err)
				}
			}
			r.reportExit(o.exit, nil)
			return
		case <-r.wake:
		case <-unused:
			r.stop(ctx, container)
			return
		case <-limit:
			r.agent.cfg.Log.Warn("not all nodes have confirmed in time that they send a task no more connections; it is stopped, and requests to it may fail", "task", r.current().ID)
			r.markDrained()
		}
	}
}

// hasRun tells whether the task has been reported as running: by this life of the daemon, or by an earlier one whose report has reached the managers, perhaps after
// the session began from which the runner has its status.
func (r *runner) hasRun() bool {
	return max(r.lastStatus().State, r.current().Status.State) >= shoal.TaskRunning
}

func (r *runner) stop(ctx context.Context, container string) {
	if err := r.agent.cfg.Runtime.Stop(ctx, container, r.current()); err != nil && ctx.Err() == nil {
		r.agent.cfg.Log.Error("container of a task cannot be stopped; it may go on running", "container", container, "err", err)
	}
	if ctx.Err() == nil {
		r.setStatus(shoal.TaskShutdown, "shutdown", nil, nil)
	}
}

// reportExit reports the state that follows from how a container ended by itself, in Docker's words.
func (r *runner) reportExit(exit Exit, info *shoal.ContainerStatus) {
	r.mu.Lock()
	if info == nil && r.status.Container != nil {
		c := *r.status.Container
		info = &c
	}
	r.mu.Unlock()
	if info != nil {
		info.ExitCode = exit.Code
	}
	switch {
	case exit.Unhealthy:
		r.setStatus(shoal.TaskFailed, "started", fmt.Errorf("task: non-zero exit (%d): dockerexec: unhealthy container", exit.Code), info)
	case exit.Code == 0 && exit.Err == "":
		r.setStatus(shoal.TaskComplete, "finished", nil, info)
	case exit.Err != "":
		r.setStatus(shoal.TaskFailed, "started", fmt.Errorf("task: non-zero exit (%d): %s", exit.Code, exit.Err), info)
	default:
		r.setStatus(shoal.TaskFailed, "started", fmt.Errorf("task: non-zero exit (%d)", exit.Code), info)
	}
}

// awaitChange waits until the task has been updated; it returns false if ctx ends first.
func (r *runner) awaitChange(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
		return true
	}
}

// cleanUp stops and removes the container of a task that is no longer assigned. The other nodes have known for a while that it is not to be used, but this one may
// have been without a session until now: its kernel goes by the new table first.
func (r *runner) cleanUp(ctx context.Context) {
	r.mu.Lock()
	found := r.found
	r.mu.Unlock()
	if found == nil {
		return
	}
	if state := r.lastStatus().State; state >= shoal.TaskStarting && !state.Ended() {
		r.agent.awaitTables(ctx)
		r.stop(ctx, found.ContainerID)
	}
	r.agent.remove(ctx, found.ContainerID)
}

// remove removes a container. It retries until that succeeds or ctx ends, because no later assignment will mention the container.
func (a *Agent) remove(ctx context.Context, container string) {
	const first, longest = time.Second, time.Minute
	for pause := first; ; pause = min(2*pause, longest) {
		err := a.cfg.Runtime.Remove(ctx, container)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.cfg.Log.Error("container of a task cannot be removed; it is tried again", "container", container, "again in", pause, "err", err)
		if !sleep(ctx, pause) {
			return
		}
	}
}
