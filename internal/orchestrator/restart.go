package orchestrator

import (
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// orphanAfter is how long a node may be gone before its tasks are given up for lost.
const orphanAfter = 24 * time.Hour

// restart replaces the wanted tasks of a place that have ended, as their restart policy says. The replacement waits in
// desired state Ready until the delay is over; release moves it on.
func (p *plan) restart(tasks []*shoal.Task) {
	for _, t := range tasks {
		t = p.tasks[t.ID]
		if t == nil || !wanted(t) || !t.Status.State.Ended() {
			continue
		}
		again := p.restartable(t, tasks)
		p.desire(t, shoal.TaskShutdown)
		if !again || p.replaced(t, tasks) {
			continue
		}
		from := t.Status.Timestamp
		if from.IsZero() || from.After(p.now) {
			from = p.now
		}
		if delay := restartDelay(p.service.Spec.Task.Restart); delay > 0 {
			p.create(t.Slot, globalNode(t), shoal.TaskReady, from.Add(delay))
		} else {
			p.create(t.Slot, globalNode(t), p.runState(), p.now)
		}
	}
}

// globalNode is the node that a replacement must run on: its predecessor's for global tasks, none for slots.
func globalNode(t *shoal.Task) shoal.ID {
	if t.Slot != 0 {
		return ""
	}
	return t.NodeID
}

// replaced tells whether another task of the place is wanted already, as during a start-first update.
func (p *plan) replaced(t *shoal.Task, tasks []*shoal.Task) bool {
	for _, other := range tasks {
		if other.ID != t.ID && wanted(p.tasks[other.ID]) && !other.Status.State.Ended() {
			return true
		}
	}
	return false
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

// forget deletes the tasks that nobody needs: those to be removed once nothing of them runs, and all but the newest of a
// place's history. Tasks of a node that no longer exists are declared orphans, as are those of one gone for a day.
func (p *plan) forget() {
	for _, t := range p.sorted() {
		switch {
		case t.DesiredState == shoal.TaskRemove && p.gone(t):
			p.remove(t)
		case !wanted(t) && t.Status.State < shoal.TaskAssigned:
			p.remove(t) // never had a node: there is nothing to tell of it
		case t.NodeID != "" && !t.Status.State.Ended() && p.lost(t):
			next := *t
			next.Status.State, next.Status.Timestamp = shoal.TaskOrphaned, p.now
			next.Status.Message = "task was orphaned: its node is gone"
			p.put(&next)
		}
	}
	if p.service == nil {
		return
	}
	keep := shoal.DefaultTaskHistoryLimit
	if c := p.view.Cluster(); c != nil {
		keep = int(c.Spec.TaskHistoryLimit)
	}
	if r := p.service.Spec.Task.Restart; r != nil && r.MaxAttempts != nil {
		keep = max(keep, int(min(*r.MaxAttempts, 1000))+1) // #nosec G115 -- bounded
	}
	all := p.places()
	for _, key := range orderPlaces(all) {
		excess := len(all[key]) - max(keep, 1)
		for _, t := range all[key] {
			if excess > 0 && !wanted(t) && p.gone(t) && !p.counts(t) {
				p.remove(t)
				excess--
			}
		}
	}
}

// counts tells whether a job still needs a task's result.
func (p *plan) counts(t *shoal.Task) bool {
	return p.service.JobStatus != nil && t.JobIteration != nil && *t.JobIteration == p.service.JobStatus.Iteration &&
		t.Status.State == shoal.TaskComplete
}

// lost tells whether a task will never be heard of again.
func (p *plan) lost(t *shoal.Task) bool {
	node := p.view.Node(t.NodeID)
	if node == nil {
		return true
	}
	if node.Status.State != shoal.NodeDown {
		return false
	}
	if over := node.UpdatedAt.Add(orphanAfter); over.After(p.now) {
		p.changes.Requeue(over)
		return false
	}
	return true
}

func (p *plan) remove(t *shoal.Task) {
	delete(p.tasks, t.ID)
	if stored := p.view.Task(t.ID); stored != nil {
		p.deletes = append(p.deletes, stored)
	}
}
