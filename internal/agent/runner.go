package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// drainLimit bounds the wait for every balancer to let go of a task before it is stopped.
const drainLimit = 5 * time.Second

// runner takes one task through its states.
type runner struct {
	agent *Agent
	found *Found // the container of an earlier life of the daemon

	mu     sync.Mutex // guards task, status
	task   *shoal.Task
	status shoal.TaskStatus

	unused chan struct{} // closed by letGo once no balancer uses the task
	once   sync.Once     // of letGo
	wake   chan struct{} // capacity 1: desired state changed
	forget context.CancelCauseFunc
}

// errForgotten ends a runner whose task is assigned no longer. One that ends for another reason leaves its container alone.
var errForgotten = errors.New("task is no longer assigned")

// assign starts, redirects and forgets tasks as the manager says. Containers of tasks that a full assignment does not name are removed.
func (a *Agent) assign(ctx context.Context, tasks *rpc.Tasks) error {
	var found map[shoal.TaskID]*Found
	if tasks.Full {
		list, err := a.cfg.Runtime.Tasks(ctx)
		if err != nil {
			return fmt.Errorf("list containers of tasks: %w", err)
		}
		found = make(map[shoal.TaskID]*Found, len(list))
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
			continue // an address for a plain container: nothing to run
		}
		if r, ok := a.runners[task.ID]; ok {
			r.redirect(task)
			continue
		}
		a.startRunnerLocked(ctx, task, found[task.ID])
	}
	for _, id := range tasks.Removed {
		a.forgetLocked(id)
	}
	if tasks.Full {
		for id := range a.runners {
			if !named[id] {
				a.forgetLocked(id)
			}
		}
		for id, f := range found {
			if !named[id] {
				a.removeGhost(ctx, f)
			}
		}
	}
	a.dropDependenciesLocked()
	return nil
}

// dropDependenciesLocked forgets the secrets and configs of tasks that are here no more.
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

func (a *Agent) startRunnerLocked(ctx context.Context, task *shoal.Task, found *Found) {
	if found == nil && task.Status.State.Ended() {
		return // ended and cleaned up in an earlier life
	}
	assigned, forget := context.WithCancelCause(ctx)
	r := &runner{agent: a, found: found, task: task, status: task.Status, forget: forget,
		unused: make(chan struct{}), wake: make(chan struct{}, 1)}
	a.runners[task.ID] = r
	a.tasks.Go(func() {
		r.run(assigned)
		if errors.Is(context.Cause(assigned), errForgotten) {
			r.cleanUp(ctx)
		}
	})
}

// forgetLocked ends a task that is assigned no longer and removes its container.
func (a *Agent) forgetLocked(id shoal.TaskID) {
	if r, ok := a.runners[id]; ok {
		delete(a.runners, id)
		delete(a.reports, id)
		r.forget(errForgotten)
	}
}

func (a *Agent) removeGhost(ctx context.Context, f *Found) {
	a.tasks.Go(func() {
		a.cfg.Log.Info("remove container of a task that is not assigned", "task", f.TaskID, "container", f.ContainerID)
		a.remove(ctx, f.ContainerID)
	})
}

func (a *Agent) drained(ids []shoal.TaskID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if r, ok := a.runners[id]; ok {
			r.letGo()
		}
	}
}

// letGo notes that no balancer uses the task any more.
func (r *runner) letGo() { r.once.Do(func() { close(r.unused) }) }

func (r *runner) redirect(task *shoal.Task) {
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

// enter records and reports a state.
func (r *runner) enter(state shoal.TaskState, message string, err error, container *shoal.ContainerStatus) {
	r.mu.Lock()
	r.enterLocked(state, message, container)
	if err != nil {
		r.status.Err = err.Error()
	}
	r.mu.Unlock()
	r.agent.report(r)
}

func (r *runner) enterLocked(state shoal.TaskState, message string, container *shoal.ContainerStatus) {
	if container == nil {
		container = r.status.Container
	}
	r.status = shoal.TaskStatus{State: state, Timestamp: time.Now(), Message: message, Container: container, Ports: r.status.Ports}
	if state == shoal.TaskRunning {
		r.status.Ports = r.task.Ports
	}
}

// run takes the task from wherever it is to its end, and waits there to be forgotten.
func (r *runner) run(ctx context.Context) {
	container, ok := r.prepared(ctx)
	if ok && r.started(ctx, container) {
		r.supervise(ctx, container)
	}
	<-ctx.Done()
}

// prepared makes the container, or finds the one of an earlier life.
func (r *runner) prepared(ctx context.Context) (container string, ok bool) {
	if r.found != nil {
		return r.found.ContainerID, true
	}
	if r.stopping() {
		r.enter(shoal.TaskShutdown, "shutdown", nil, nil)
		return "", false
	}
	r.enter(shoal.TaskPreparing, "preparing", nil, nil)
	container, err := r.agent.cfg.Runtime.Prepare(ctx, r.current(), r.agent.dependencies())
	switch {
	case ctx.Err() != nil:
		return "", false
	case err != nil:
		r.enter(shoal.TaskRejected, "preparing", err, nil)
		return "", false
	}
	r.mu.Lock()
	r.found = &Found{TaskID: r.task.ID, ContainerID: container}
	r.mu.Unlock()
	return container, true
}

func (a *Agent) dependencies() Dependencies {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Dependencies{Secrets: maps.Clone(a.deps.Secrets), Configs: maps.Clone(a.deps.Configs), Networks: a.networks}
}

// started starts the container when the task is wanted running, and returns when it runs and is healthy.
func (r *runner) started(ctx context.Context, container string) bool {
	info := &shoal.ContainerStatus{ContainerID: container}
	if r.found.Started {
		info.PID = r.found.PID
		if !r.found.Running {
			r.ended(r.found.Exit, info)
			return false
		}
	} else {
		for r.current().DesiredState < shoal.TaskRunning {
			if r.lastStatus().State < shoal.TaskReady {
				r.enter(shoal.TaskReady, "prepared", nil, info)
			}
			if !r.await(ctx) {
				return false
			}
		}
		if r.stopping() {
			r.enter(shoal.TaskShutdown, "shutdown", nil, info)
			return false
		}
		r.enter(shoal.TaskStarting, "starting", nil, info)
		pid, err := r.agent.cfg.Runtime.Start(ctx, container)
		if err != nil {
			if ctx.Err() == nil {
				r.enter(shoal.TaskFailed, "starting", fmt.Errorf("starting container failed: %w", err), info)
			}
			return false
		}
		info = &shoal.ContainerStatus{ContainerID: container, PID: pid}
	}
	return r.healthy(ctx, container, info)
}

// healthy holds a started task back until its health check agrees or it is told to stop.
func (r *runner) healthy(ctx context.Context, container string, info *shoal.ContainerStatus) bool {
	checked, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan error, 1)
	go func() { result <- r.agent.cfg.Runtime.Healthy(checked, container, r.current()) }()
	for {
		select {
		case <-ctx.Done():
			return false
		case err := <-result:
			switch {
			case err == nil && r.readyCheck() == nil:
				r.enter(shoal.TaskRunning, "started", nil, info)
			case err != nil || r.lastStatus().State < shoal.TaskRunning: // else it ran in an earlier life of the daemon
				r.enter(shoal.TaskStarting, "starting", nil, info) // supervise tells how it goes on
			}
			return true
		case <-r.wake:
			if r.stopping() {
				return true
			}
		}
	}
}

// supervise waits for the container's end, or ends it when the task is wanted no longer.
func (r *runner) supervise(ctx context.Context, container string) {
	waited, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting()
	type outcome struct {
		exit Exit
		err  error
	}
	end := make(chan outcome, 1)
	go func() {
		exit, err := r.agent.cfg.Runtime.Wait(waited, container)
		end <- outcome{exit, err}
	}()
	if check := r.readyCheck(); check != nil {
		r.agent.tasks.Go(func() { r.watchReady(waited, container, *check) })
	}
	var unused <-chan struct{}
	var limit <-chan time.Time
	for {
		if r.stopping() {
			if r.lastStatus().State < shoal.TaskRunning {
				r.letGo() // none ever used it
			}
			unused = r.unused
			if limit == nil {
				limit = time.After(drainLimit)
			}
		}
		select {
		case <-ctx.Done():
			return
		case o := <-end:
			if o.err != nil {
				if ctx.Err() == nil {
					r.enter(shoal.TaskFailed, "failed", o.err, nil)
				}
				return
			}
			if o.exit.Unhealthy {
				if err := r.agent.cfg.Runtime.Stop(ctx, container, r.current()); err != nil {
					r.agent.cfg.Log.Error("stop unhealthy container", "container", container, "err", err)
				}
			}
			r.ended(o.exit, nil)
			return
		case <-r.wake:
		case <-unused:
			r.stop(ctx, container)
			return
		case <-limit:
			r.agent.cfg.Log.Warn("stop a task although some node may still balance to it", "task", r.current().ID)
			r.letGo()
		}
	}
}

func (r *runner) stop(ctx context.Context, container string) {
	if err := r.agent.cfg.Runtime.Stop(ctx, container, r.current()); err != nil && ctx.Err() == nil {
		r.agent.cfg.Log.Error("stop container", "container", container, "err", err)
	}
	if ctx.Err() == nil {
		r.enter(shoal.TaskShutdown, "shutdown", nil, nil)
	}
}

// ended reports a container that ended by itself.
func (r *runner) ended(exit Exit, info *shoal.ContainerStatus) {
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
		r.enter(shoal.TaskFailed, "started", fmt.Errorf("task: non-zero exit (%d): dockerexec: unhealthy container", exit.Code), info)
	case exit.Code == 0 && exit.Err == "":
		r.enter(shoal.TaskComplete, "finished", nil, info)
	case exit.Err != "":
		r.enter(shoal.TaskFailed, "started", fmt.Errorf("task: non-zero exit (%d): %s", exit.Code, exit.Err), info)
	default:
		r.enter(shoal.TaskFailed, "started", fmt.Errorf("task: non-zero exit (%d)", exit.Code), info)
	}
}

// await waits for a change of the task.
func (r *runner) await(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
		return true
	}
}

// cleanUp removes the container of a forgotten task.
func (r *runner) cleanUp(ctx context.Context) {
	r.mu.Lock()
	found := r.found
	r.mu.Unlock()
	if found == nil {
		return
	}
	if state := r.lastStatus().State; state >= shoal.TaskStarting && !state.Ended() {
		r.stop(ctx, found.ContainerID)
	}
	r.agent.remove(ctx, found.ContainerID)
}

// remove removes a container, however often it has to try: nobody will ask for it again.
func (a *Agent) remove(ctx context.Context, container string) {
	const first, longest = time.Second, time.Minute
	for pause := first; ; pause = min(2*pause, longest) {
		err := a.cfg.Runtime.Remove(ctx, container)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.cfg.Log.Error("remove container of a task", "container", container, "again in", pause, "err", err)
		if !rest(ctx, pause) {
			return
		}
	}
}
