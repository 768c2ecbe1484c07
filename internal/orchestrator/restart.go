package orchestrator

import (
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	// healthyAfter is how long a task must have run for its failure not to count as a crash.
	healthyAfter = 30 * time.Second
	// maxBackoff is the longest pause between crashes, save a longer delay in the restart policy.
	maxBackoff = time.Minute
	// firstBackoff is the pause after a second crash when the policy has no delay.
	firstBackoff = 100 * time.Millisecond
)

// restart replaces the wanted tasks of a slot that have ended, if their restart policy says so, and tells whether there is a
// replacement. One that must wait for the restart delay has the desired state Ready until startWaiting changes it.
func (p *plan) restart(tasks []*shoal.Task) (hasReplacement bool) {
	for _, t := range tasks {
		t = p.tasks[t.ID]
		if t == nil || !wanted(t) || !t.Status.State.Ended() {
			continue
		}
		again := p.restartable(t, tasks)
		p.desire(t, shoal.TaskShutdown)
		if !again || hasReplacement || p.hasReplacement(t, tasks) {
			continue
		}
		if restartPause := p.restartPause(t, tasks); restartPause > 0 {
			next := p.create(t.Slot, nodeOfGlobal(t), shoal.TaskReady, p.now.Add(restartPause))
			p.hold(next, t.NotBefore)
		} else {
			p.create(t.Slot, nodeOfGlobal(t), p.runState(), p.now)
		}
		hasReplacement = true
	}
	return hasReplacement
}

// hold keeps the successor of a task that ended while it waited from its node until that task's pause is over. Without it, a task that cannot even be
// prepared would be replaced without end, however long its successors are to wait.
func (p *plan) hold(next *shoal.Task, pauseOver time.Time) {
	if !pauseOver.After(p.now) {
		return
	}
	next.HeldUntil = pauseOver
	if next.NotBefore.Before(pauseOver) {
		next.NotBefore = pauseOver
	}
}

// release lets tasks go that need not be held any longer.
func (p *plan) release() {
	for _, t := range p.sorted() {
		switch {
		case t.HeldUntil.IsZero():
		case wanted(t) && t.HeldUntil.After(p.now):
			p.changes.Requeue(t.HeldUntil)
		default:
			next := *t
			next.HeldUntil = time.Time{}
			p.put(&next)
		}
	}
}

// restartPause is how long the replacement of an ended task waits: the policy's delay. After a crash it is at least twice what
// the crashed task itself had waited, up to maxBackoff (exponential backoff). The first task of a newer spec does not wait.
func (p *plan) restartPause(t *shoal.Task, tasks []*shoal.Task) time.Duration {
	if p.dirty(t) {
		return 0 // how tasks of an older spec ended says nothing of the present one
	}
	delay := restartDelay(p.service.Spec.Task.Restart)
	if !crashed(t) {
		return delay
	}
	waited := t.NotBefore.Sub(t.CreatedAt)
	if waited <= 0 && slices.ContainsFunc(tasks, func(other *shoal.Task) bool { return olderFirst(other, t) < 0 && crashed(other) }) {
		waited = firstBackoff / 2
	}
	return max(delay, min(2*waited, maxBackoff))
}

// crashed tells whether a task failed soon after it had begun to run, or before.
func crashed(t *shoal.Task) bool {
	return (t.Status.State == shoal.TaskFailed || t.Status.State == shoal.TaskRejected) && failedWithin(t, healthyAfter)
}

// nodeOfGlobal is the node that a replacement must run on: for tasks of global services that of the predecessor, else none.
func nodeOfGlobal(t *shoal.Task) shoal.NodeID {
	if t.Slot != 0 {
		return ""
	}
	return t.NodeID
}

// hasReplacement tells whether another task of the slot already replaces an ended one, as during a start-first update. A task of
// an older spec does not replace one of the present spec.
func (p *plan) hasReplacement(t *shoal.Task, tasks []*shoal.Task) bool {
	return slices.ContainsFunc(tasks, func(other *shoal.Task) bool {
		now := p.tasks[other.ID]
		return other.ID != t.ID && now != nil && wanted(now) && !now.Status.State.Ended() && (p.dirty(t) || !p.dirty(now))
	})
}

func restartDelay(r *shoal.RestartPolicy) time.Duration {
	if r == nil || r.Delay == nil {
		return shoal.DefaultRestartDelay
	}
	return *r.Delay
}

// restartable tells whether the restart policy wants an ended task replaced; tasks are all tasks of its slot.
func (p *plan) restartable(t *shoal.Task, tasks []*shoal.Task) bool {
	policy := p.service.Spec.Task.Restart
	if policy == nil {
		return true
	}
	switch policy.Condition {
	case shoal.RestartNone:
		return false
	case shoal.RestartOnFailure:
		if t.Status.State == shoal.TaskComplete {
			return false
		}
	default:
	}
	if policy.MaxAttempts == nil || *policy.MaxAttempts == 0 {
		return true
	}
	// Every task of this spec in the slot counts as one attempt, except the first, which was no restart.
	var attempts uint64
	first := true
	for _, other := range tasks {
		if other.SpecVersion != t.SpecVersion || !sameJobRun(other, t) {
			continue
		}
		if first {
			first = false
			continue
		}
		if policy.Window == nil || *policy.Window == 0 || p.now.Sub(other.CreatedAt) < *policy.Window {
			attempts++
		}
	}
	return attempts < *policy.MaxAttempts
}

func sameJobRun(a, b *shoal.Task) bool {
	if a.JobIteration == nil || b.JobIteration == nil {
		return a.JobIteration == b.JobIteration
	}
	return *a.JobIteration == *b.JobIteration
}

// startWaiting changes the desired state of tasks from Ready to Running (for jobs: to Complete) once their restart delay is over
// and the tasks they replace have stopped.
func (p *plan) startWaiting() {
	if p.waitsForDependencies() {
		return
	}
	all := p.slots()
	for _, key := range sortedSlots(all) {
		for _, t := range all[key] {
			if t.DesiredState != shoal.TaskReady || t.Status.State.Ended() {
				continue
			}
			if t.NotBefore.After(p.now) {
				p.changes.Requeue(t.NotBefore)
				continue
			}
			if p.predecessorsStopped(t, all[key]) {
				p.desire(t, p.runState())
			}
		}
	}
}

func (p *plan) predecessorsStopped(t *shoal.Task, tasks []*shoal.Task) bool {
	for _, other := range tasks {
		if other.ID != t.ID && !wanted(other) && olderFirst(other, t) < 0 && !p.stopped(other) {
			return false
		}
	}
	return true
}
