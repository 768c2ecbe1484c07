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

// restart replaces the wanted tasks of a place that have ended, as their restart policy says. The replacement waits in
// desired state Ready until the delay is over; release moves it on. It tells whether there is one.
func (p *plan) restart(tasks []*shoal.Task) (replaced bool) {
	for _, t := range tasks {
		t = p.tasks[t.ID]
		if t == nil || !wanted(t) || !t.Status.State.Ended() {
			continue
		}
		again := p.restartable(t, tasks)
		p.desire(t, shoal.TaskShutdown)
		if !again || replaced || p.replaced(t, tasks) {
			continue
		}
		if pause := p.pause(t, tasks); pause > 0 {
			p.create(t.Slot, globalNode(t), shoal.TaskReady, p.now.Add(pause))
		} else {
			p.create(t.Slot, globalNode(t), p.runState(), p.now)
		}
		replaced = true
	}
	return replaced
}

// pause is how long the replacement of an ended task waits: the policy's delay, or twice what the task itself waited if that is
// more and the task crashed.
func (p *plan) pause(t *shoal.Task, tasks []*shoal.Task) time.Duration {
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

// globalNode is the node that a replacement must run on: its predecessor's for global tasks, none for slots.
func globalNode(t *shoal.Task) shoal.NodeID {
	if t.Slot != 0 {
		return ""
	}
	return t.NodeID
}

// replaced tells whether another task of the place takes over from an ended one, as during a start-first update: for a task
// made as the spec asks, one of an older spec does not.
func (p *plan) replaced(t *shoal.Task, tasks []*shoal.Task) bool {
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

// restartable tells whether the policy wants an ended task replaced; tasks is the place's.
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
	// Every task of this spec in the place is one attempt; the first of them was no restart.
	var attempts uint64
	first := true
	for _, other := range tasks {
		if other.SpecVersion != t.SpecVersion || !samePlaceRun(other, t) {
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

func samePlaceRun(a, b *shoal.Task) bool {
	if a.JobIteration == nil || b.JobIteration == nil {
		return a.JobIteration == b.JobIteration
	}
	return *a.JobIteration == *b.JobIteration
}

// release moves tasks that wait in Ready on to Running (or Complete, for jobs) when their delay is over and what they replace
// has stopped.
func (p *plan) release() {
	if p.waits() {
		return
	}
	all := p.places()
	for _, key := range orderPlaces(all) {
		for _, t := range all[key] {
			if t.DesiredState != shoal.TaskReady || t.Status.State.Ended() {
				continue
			}
			if t.NotBefore.After(p.now) {
				p.changes.Requeue(t.NotBefore)
				continue
			}
			if p.predecessorsGone(t, all[key]) {
				p.desire(t, p.runState())
			}
		}
	}
}

func (p *plan) predecessorsGone(t *shoal.Task, tasks []*shoal.Task) bool {
	for _, other := range tasks {
		if other.ID != t.ID && !wanted(other) && olderFirst(other, t) < 0 && !p.gone(other) {
			return false
		}
	}
	return true
}
