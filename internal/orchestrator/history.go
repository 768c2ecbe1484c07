package orchestrator

import (
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// orphanAfter is how long a node may be gone before its tasks are given up for lost.
const orphanAfter = 24 * time.Hour

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
	if p.updating() {
		keep = max(keep, 2) // what a task took the place of tells that it is the update's
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
	if at, put := p.written[string(t.ID)]; put {
		p.changes.Puts[at] = nil
	}
	if stored := p.view.Task(t.ID); stored != nil {
		p.deletes = append(p.deletes, stored)
	}
}
