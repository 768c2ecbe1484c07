package orchestrator

import (
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// maxParallelism is more tasks than any update replaces at once.
const maxParallelism = 1 << 20

// defaultMonitor is how long a new task is watched for failure, unless the update says otherwise.
const defaultMonitor = 5 * time.Second

// update replaces tasks of an older spec, as many at a time as the service's UpdateConfig allows. All it needs to know of
// its own progress is in the tasks and in UpdateStatus.
func (p *plan) update(taken []place) {
	all := p.places()
	cfg := p.updateConfig()
	var stale, busy, fresh []place
	for _, key := range taken {
		old, current := p.split(all[key])
		if len(old) > 0 && len(current) > 0 && reached(current, shoal.TaskRunning) {
			for _, t := range old { // start-first: the replacement runs
				p.desire(t, shoal.TaskShutdown)
			}
			old = nil
		}
		switch {
		case len(old) > 0 && len(current) == 0:
			stale = append(stale, key)
		case len(old) > 0, p.settling(current, cfg.Delay):
			busy = append(busy, key)
		default:
			fresh = append(fresh, key)
		}
	}
	if p.halted() {
		return
	}
	if len(stale) == 0 && !p.updating() {
		return
	}
	if len(stale) > 0 && !p.updating() {
		p.setStatus(shoal.UpdateStatus{State: shoal.UpdateUpdating, StartedAt: &p.now, Message: "update in progress"})
	}
	if p.checkFailures(all, taken, cfg) {
		return
	}
	if len(stale) == 0 {
		if len(busy) == 0 {
			p.finish(all, fresh, cfg)
		}
		return
	}
	free := len(stale)
	if cfg.Parallelism > 0 {
		free = max(0, int(min(cfg.Parallelism, maxParallelism))-len(busy)) // #nosec G115 -- bounded
	}
	for _, key := range stale[:min(free, len(stale))] {
		p.renew(key, all[key], cfg.Order)
	}
}

func (p *plan) rollingBack() bool {
	return p.service.UpdateStatus != nil && p.service.UpdateStatus.State == shoal.UpdateRollbackStarted
}

func (p *plan) updating() bool {
	return p.service.UpdateStatus != nil && (p.service.UpdateStatus.State == shoal.UpdateUpdating || p.rollingBack())
}

func (p *plan) halted() bool {
	s := p.service.UpdateStatus
	return s != nil && (s.State == shoal.UpdatePaused || s.State == shoal.UpdateRollbackPaused)
}

// updateConfig is the one in force, with Docker's defaults.
func (p *plan) updateConfig() shoal.UpdateConfig {
	given := p.service.Spec.Update
	if p.rollingBack() {
		given = p.service.Spec.Rollback
	}
	cfg := shoal.UpdateConfig{Parallelism: 1}
	if given != nil {
		cfg = *given
	}
	if cfg.Monitor == 0 {
		cfg.Monitor = defaultMonitor
	}
	if cfg.Order == "" {
		cfg.Order = shoal.StopFirst
	}
	if cfg.FailureAction == "" {
		cfg.FailureAction = shoal.PauseOnFailure
	}
	return cfg
}

// split parts what a place has now into tasks of an older spec and those of the present one.
func (p *plan) split(tasks []*shoal.Task) (old, fresh []*shoal.Task) {
	for _, t := range p.current(tasks) {
		if p.dirty(t) {
			old = append(old, t)
		} else {
			fresh = append(fresh, t)
		}
	}
	return old, fresh
}

func reached(tasks []*shoal.Task, state shoal.TaskState) bool {
	for _, t := range tasks {
		if t.Status.State == state {
			return true
		}
	}
	return false
}

// settling tells whether a task made by this update has not come to run, or has but the delay after it is not over.
func (p *plan) settling(tasks []*shoal.Task, delay time.Duration) bool {
	if !p.updating() {
		return false
	}
	for _, t := range tasks {
		if p.service.UpdateStatus.StartedAt == nil || t.CreatedAt.Before(*p.service.UpdateStatus.StartedAt) {
			continue
		}
		if !t.Status.State.Ended() && t.Status.State < shoal.TaskRunning {
			return true
		}
		if over := t.Status.Timestamp.Add(delay); t.Status.State == shoal.TaskRunning && over.After(p.now) {
			p.changes.Requeue(over)
			return true
		}
	}
	return false
}

// renew replaces the tasks of one place.
func (p *plan) renew(key place, tasks []*shoal.Task, order shoal.UpdateOrder) {
	if order == shoal.StartFirst {
		p.create(key.slot, key.node, shoal.TaskRunning, p.now)
		return
	}
	for _, t := range p.current(tasks) {
		p.desire(t, shoal.TaskShutdown)
	}
	p.create(key.slot, key.node, shoal.TaskReady, p.now)
}

// checkFailures counts the places in which a task of the new spec has failed since the update began, and acts when they are
// too many. It tells whether the update goes no further.
func (p *plan) checkFailures(all map[place][]*shoal.Task, taken []place, cfg shoal.UpdateConfig) bool {
	if cfg.FailureAction == shoal.ContinueOnFailure || p.service.UpdateStatus.StartedAt == nil {
		return false
	}
	failed, culprit := 0, ""
	for _, key := range taken {
		for _, t := range all[key] {
			if t.SpecVersion == p.service.SpecVersion && failedItself(t) && !t.CreatedAt.Before(*p.service.UpdateStatus.StartedAt) {
				failed++
				culprit = t.ID
				break
			}
		}
	}
	if failed == 0 || float32(failed)/float32(len(taken)) <= cfg.MaxFailureRatio {
		return false
	}
	started := p.service.UpdateStatus.StartedAt
	cause := "due to failure or early termination of task " + culprit
	switch {
	case p.rollingBack():
		p.setStatus(shoal.UpdateStatus{State: shoal.UpdateRollbackPaused, StartedAt: started, Message: "rollback paused " + cause})
	case cfg.FailureAction == shoal.RollbackOnFailure && p.service.PreviousSpec != nil:
		next := *p.service
		next.Spec, next.PreviousSpec = *p.service.PreviousSpec, nil
		next.SpecVersion++
		p.service = &next
		p.setStatus(shoal.UpdateStatus{State: shoal.UpdateRollbackStarted, StartedAt: &p.now, Message: "update rolled back " + cause})
	default:
		p.setStatus(shoal.UpdateStatus{State: shoal.UpdatePaused, StartedAt: started, Message: "update paused " + cause})
	}
	return true
}

// failedItself tells whether a task ended although it was not told to.
func failedItself(t *shoal.Task) bool {
	switch t.Status.State {
	case shoal.TaskFailed, shoal.TaskRejected, shoal.TaskComplete:
		return true
	default:
		return false
	}
}

// finish declares the update complete once its last task has run for the monitoring period.
func (p *plan) finish(all map[place][]*shoal.Task, fresh []place, cfg shoal.UpdateConfig) {
	status := *p.service.UpdateStatus
	if status.StartedAt == nil {
		status.StartedAt = &p.now
	}
	for _, key := range fresh {
		for _, t := range p.current(all[key]) {
			over := t.Status.Timestamp.Add(cfg.Monitor)
			if !t.CreatedAt.Before(*status.StartedAt) && over.After(p.now) {
				p.changes.Requeue(over)
				return
			}
		}
	}
	what := "update"
	status.State = shoal.UpdateCompleted
	if p.rollingBack() {
		what, status.State = "rollback", shoal.UpdateRollbackCompleted
	}
	status.CompletedAt, status.Message = &p.now, what+" completed"
	p.setStatus(status)
}

func (p *plan) setStatus(s shoal.UpdateStatus) {
	next := *p.service
	next.UpdateStatus = &s
	p.putService(&next)
}
