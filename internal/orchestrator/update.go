package orchestrator

import (
	"cmp"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// maxParallelism bounds how many tasks an update replaces at once, so that the number fits an int.
const maxParallelism = 1 << 20

// defaultMonitor is how long a new task is watched for failure, unless the update says otherwise.
const defaultMonitor = 5 * time.Second

// progress is the state of one slot in an update.
type progress struct {
	key slotKey
	// old and fresh are the slot's current tasks: those that differ from the spec, and those that do not.
	old, fresh []*shoal.Task
	// first is the first task in the slot that was made from the present spec. The update of the slot succeeds or fails with it;
	// later restarts do not count.
	first *shoal.Task
	// replaces tells whether there was an older task in the slot that first replaced.
	replaces bool
}

// update replaces tasks of an older spec, as many at a time as the service's UpdateConfig allows. It keeps no state of its own:
// its progress is derived from the tasks and UpdateStatus.
func (p *plan) update(taken []slotKey) {
	all := p.slots()
	cfg := p.updateConfig()
	var stale, rest []progress
	inProgress := 0
	for _, key := range taken {
		at := p.progress(key, all[key])
		if len(at.old) > 0 && running(at.fresh) {
			for _, t := range at.old { // start-first: the replacement runs
				p.desire(t, shoal.TaskShutdown)
			}
			at.old = nil
		}
		if len(at.old) > 1 {
			at.old = p.keepOneOf(at.old)
		}
		if len(at.old) > 0 && len(at.fresh) > 0 && !p.paused() {
			if next := at.fresh[len(at.fresh)-1]; p.blocked(next) && p.roomWithout(at.old) {
				p.giveWay(at.old, next, next.Status.Err)
				clear(p.room)
			}
		}
		if len(at.old) > 0 && at.first == nil && len(at.fresh) == 0 {
			stale = append(stale, at)
			continue
		}
		rest = append(rest, at)
		if p.inProgress(at, cfg.Delay) {
			inProgress++
		}
	}
	if p.paused() || (len(stale) == 0 && !p.updating()) {
		return
	}
	if !p.updating() {
		p.setStatus(shoal.UpdateStatus{State: shoal.UpdateUpdating, StartedAt: &p.now, Message: "update in progress"})
	}
	if p.checkFailures(rest, len(taken), cfg) {
		return
	}
	if len(stale) == 0 {
		if inProgress == 0 {
			p.finish(rest, cfg.Monitor)
		}
		return
	}
	free := len(stale)
	if cfg.Parallelism > 0 {
		free = max(0, int(min(cfg.Parallelism, maxParallelism))-inProgress)
	}
	// Slots without a running task come first: replacing them takes nothing away from users. It also keeps an update that
	// interrupts another one from stopping more running tasks than its own parallelism.
	slices.SortStableFunc(stale, func(a, b progress) int { return cmp.Compare(oneIf(running(a.old)), oneIf(running(b.old))) })
	for _, at := range stale[:min(free, len(stale))] {
		p.replace(at, cfg.Order)
	}
}

// oneIf is 1 if b is true, else 0: false sorts before true.
func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *plan) progress(key slotKey, tasks []*shoal.Task) progress {
	at := progress{key: key}
	for _, t := range p.current(tasks) {
		if p.dirty(t) {
			at.old = append(at.old, t)
		} else {
			at.fresh = append(at.fresh, t)
		}
	}
	for _, t := range slices.Backward(tasks) {
		if p.dirty(t) {
			at.replaces = at.first != nil
			break
		}
		if wanted(t) || ranSince(t) != nil || failedItself(t) { // else it was given up on the way
			at.first = t
		}
	}
	return at
}

func running(tasks []*shoal.Task) bool {
	return slices.ContainsFunc(tasks, func(t *shoal.Task) bool { return t.Status.State == shoal.TaskRunning })
}

// ranSince is when a task came to run, nil if it has not.
func ranSince(t *shoal.Task) *time.Time {
	switch {
	case !t.RunningSince.IsZero():
		return &t.RunningSince
	case t.Status.State == shoal.TaskRunning:
		return &t.Status.Timestamp
	default:
		return nil
	}
}

// inProgress tells whether the replacement in a slot is under way, or was done less than the update's delay ago.
func (p *plan) inProgress(at progress, delay time.Duration) bool {
	if at.first == nil || !at.replaces {
		return false
	}
	since := ranSince(at.first)
	if since == nil {
		if !at.first.Status.State.Ended() {
			return true
		}
		since = &at.first.Status.Timestamp
	}
	over := since.Add(delay)
	if over.After(p.now) {
		p.changes.Requeue(over)
		return true
	}
	return false
}

func (p *plan) rollingBack() bool {
	return p.service.UpdateStatus != nil && p.service.UpdateStatus.State == shoal.UpdateRollbackStarted
}

func (p *plan) updating() bool {
	return p.service.UpdateStatus != nil && (p.service.UpdateStatus.State == shoal.UpdateUpdating || p.rollingBack())
}

func (p *plan) paused() bool {
	s := p.service.UpdateStatus
	return s != nil && (s.State == shoal.UpdatePaused || s.State == shoal.UpdateRollbackPaused)
}

// updateConfig is the update or rollback configuration in force, with Docker's defaults filled in.
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

// replace replaces the tasks of one slot, in the update's order. A replacement that could not start first because of a
// host-mode port starts after its predecessor has stopped, and says so in its status.
func (p *plan) replace(at progress, order shoal.UpdateOrder) {
	conflict := ""
	if order == shoal.StartFirst {
		conflict = p.hostPortConflict(at)
	}
	if order == shoal.StartFirst && conflict == "" {
		p.create(at.key.slot, at.key.node, shoal.TaskRunning, p.now)
		return
	}
	for _, t := range at.old {
		p.desire(t, shoal.TaskShutdown)
	}
	next := p.create(at.key.slot, at.key.node, shoal.TaskReady, p.now)
	if conflict != "" {
		p.giveWay(nil, next, conflict)
	}
}

// keepOneOf shuts down all but one of the tasks that interrupted start-first updates have left in a slot, and returns that one. Left until it is the slot's
// turn, they could take the room that another slot's replacement waits for. It keeps the one that is nearest to run, of several the newest: its
// predecessors were to end when it ran.
func (p *plan) keepOneOf(tasks []*shoal.Task) []*shoal.Task {
	keep := 0
	for i, t := range tasks {
		if t.Status.State >= tasks[keep].Status.State {
			keep = i
		}
	}
	for i, t := range tasks {
		if i != keep {
			p.desire(t, shoal.TaskShutdown)
		}
	}
	return tasks[keep : keep+1]
}

// checkFailures counts the slots whose new task has failed within the monitoring period. If their share exceeds the maximum, it
// pauses the update or rolls it back, and returns true.
func (p *plan) checkFailures(slots []progress, total int, cfg shoal.UpdateConfig) bool {
	if cfg.FailureAction == shoal.ContinueOnFailure {
		return false
	}
	failed := 0
	var lastFailed *shoal.Task
	for _, at := range slots {
		if t := at.first; t != nil && t.SpecVersion == p.service.SpecVersion && failedItself(t) && failedWithin(t, cfg.Monitor) {
			failed++
			if lastFailed == nil || t.Status.Timestamp.After(lastFailed.Status.Timestamp) {
				lastFailed = t
			}
		}
	}
	if failed == 0 || float32(failed)/float32(total) <= cfg.MaxFailureRatio {
		return false
	}
	p.fail(cfg.FailureAction, "due to failure or early termination of task "+string(lastFailed.ID))
	return true
}

// fail pauses the update or rolls it back, in Docker's words. A rollback is never rolled back.
func (p *plan) fail(action shoal.FailureAction, cause string) {
	next := shoal.UpdateStatus{State: shoal.UpdatePaused, StartedAt: p.service.UpdateStatus.StartedAt, Message: "update paused " + cause}
	switch {
	case p.rollingBack():
		next.State = shoal.UpdateRollbackPaused
		if action == shoal.RollbackOnFailure {
			next.Message = "rollback paused " + cause
		}
	case action == shoal.RollbackOnFailure && p.service.PreviousSpec != nil:
		service := *p.service
		service.Spec, service.PreviousSpec = *p.service.PreviousSpec, nil
		service.SpecVersion++
		service.SpecOver = service.Version
		p.service = &service
		next = shoal.UpdateStatus{State: shoal.UpdateRollbackStarted, StartedAt: &p.now, Message: "update rolled back " + cause}
	}
	p.setStatus(next)
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

// failedWithin tells whether an ended task ran no longer than the limit.
func failedWithin(t *shoal.Task, limit time.Duration) bool {
	return t.RunningSince.IsZero() || t.Status.Timestamp.Sub(t.RunningSince) <= limit
}

// finish declares the update complete once each new task has run for the monitoring period or has failed.
func (p *plan) finish(slots []progress, monitor time.Duration) {
	for _, at := range slots {
		if at.first == nil || at.first.SpecVersion != p.service.SpecVersion || at.first.Status.State.Ended() {
			continue
		}
		since := ranSince(at.first)
		if since == nil {
			return
		}
		if over := since.Add(monitor); over.After(p.now) {
			p.changes.Requeue(over)
			return
		}
	}
	status := *p.service.UpdateStatus
	if status.StartedAt == nil {
		status.StartedAt = &p.now
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
