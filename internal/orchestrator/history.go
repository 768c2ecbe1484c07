package orchestrator

import (
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// orphanAfter is how long a node may be Down before its tasks become Orphaned, as in Docker Swarm.
const orphanAfter = 24 * time.Hour

// removeOld deletes tasks that are no longer needed: those with desired state Remove once they have stopped, and all but the
// newest ones of each slot's history. Tasks on a node that was removed, or has been Down for a day, become Orphaned.
func (p *plan) removeOld() {
	for _, t := range p.sorted() {
		switch {
		case t.DesiredState == shoal.TaskRemove && p.stopped(t):
			p.remove(t)
		case !wanted(t) && t.Status.State < shoal.TaskAssigned:
			p.remove(t) // it never had a node, so there is no history to show
		case t.NodeID != "" && !t.Status.State.Ended() && p.nodeLost(t):
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
		keep = max(keep, 2) // a task counts as part of the update only if its predecessor is still known: see progress.replaces
	}
	all := p.slots()
	for _, key := range sortedSlots(all) {
		excess := len(all[key]) - max(keep, 1)
		for _, t := range all[key] {
			if excess > 0 && !wanted(t) && p.stopped(t) && !p.countsForJob(t) {
				p.remove(t)
				excess--
			}
		}
	}
}

// countsForJob tells whether a task is one of the completions of a job's present iteration, which must not be forgotten.
func (p *plan) countsForJob(t *shoal.Task) bool {
	return p.service.JobStatus != nil && t.JobIteration != nil && *t.JobIteration == p.service.JobStatus.Iteration &&
		t.Status.State == shoal.TaskComplete
}

// nodeLost tells whether a task's node was removed or has been Down for so long that no status will come from it.
func (p *plan) nodeLost(t *shoal.Task) bool {
	node := p.node(t.NodeID)
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
