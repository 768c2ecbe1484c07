package orchestrator

import (
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// blockedAfter is how long a replacement that finds no node waits for one that, as far as the orchestrator can tell, will take it.
const blockedAfter = 30 * time.Second

// giveWay lets a replacement that cannot start before its predecessors start after them: it shuts these down and says so in the replacement's status.
func (p *plan) giveWay(predecessors []*shoal.Task, next *shoal.Task, reason string) {
	for _, t := range predecessors {
		p.desire(t, shoal.TaskShutdown)
	}
	noted := *next
	noted.Status = noted.Status.WithNote("stop-first for this task: " + reason)
	p.put(&noted)
	if p.updating() && !p.rollingBack() { // of a rollback the docker CLI shows the message as the cause
		status := *p.service.UpdateStatus
		status.Message = "update in progress; stop-first for task " + string(next.ID) + ": " + reason
		p.setStatus(status)
	}
}

// blocked tells whether a replacement has found no node, and will find none as long as those tasks run that are meant to.
func (p *plan) blocked(t *shoal.Task) bool {
	if t.Status.Err == "" || t.Status.State >= shoal.TaskAssigned {
		return false
	}
	if t.Status.State == shoal.TaskPending && !p.roomAfterStops(t.NodeID) {
		return true
	}
	since := t.Status.Timestamp.Add(blockedAfter) // other reasons, such as a plugin, an architecture or a network without free addresses
	if since.After(p.now) {
		p.changes.Requeue(since)
		return false
	}
	return true
}

// roomAfterStops tells whether a node, or one of all if none is given, will have room for a task of the service once the tasks have stopped that are
// about to.
func (p *plan) roomAfterStops(on shoal.NodeID) bool {
	if known, ok := p.room[on]; ok {
		return known
	}
	p.room[on] = slices.ContainsFunc(p.eligible(), func(n *shoal.Node) bool {
		return (on == "" || on == n.ID) && takesTasks(n) && p.fits(n, meantToRun)
	})
	return p.room[on]
}

// roomWithout tells whether a node of some tasks will have room for a task of the service once they have stopped.
func (p *plan) roomWithout(tasks []*shoal.Task) bool {
	return slices.ContainsFunc(p.eligible(), func(n *shoal.Node) bool {
		return takesTasks(n) && slices.ContainsFunc(tasks, func(t *shoal.Task) bool { return t.NodeID == n.ID }) &&
			p.fits(n, func(t *shoal.Task) bool {
				return meantToRun(t) && !slices.ContainsFunc(tasks, func(gone *shoal.Task) bool { return gone.ID == t.ID })
			})
	})
}

// meantToRun tells whether a task has a node and is meant to go on there.
func meantToRun(t *shoal.Task) bool {
	return wanted(t) && notEnded(t) && t.Status.State >= shoal.TaskAssigned
}

func notEnded(t *shoal.Task) bool { return !t.Status.State.Ended() }

// fits tells whether a node has the host-mode ports, CPU, memory and generic resources, and may have the number, for one more task of the service. Only tasks that hold
// counts use something there.
func (p *plan) fits(n *shoal.Node, holds func(*shoal.Task) bool) bool {
	need := reserved(&p.service.Spec.Task)
	free := n.Description.Resources
	pieces := shoal.GenericCounts(free.Generic)
	var ofService uint64
	for _, t := range p.view.TasksOnNode(n.ID) {
		if t.ServiceID == p.service.ID {
			if t = p.tasks[t.ID]; t == nil {
				continue
			}
		}
		if !holds(t) {
			continue
		}
		if t.ServiceID == p.service.ID {
			ofService++
		}
		if p.hasHostPort(t) {
			return false
		}
		free.NanoCPUs -= reserved(&t.Spec).NanoCPUs
		free.MemoryBytes -= reserved(&t.Spec).MemoryBytes
		for kind, amount := range shoal.GenericCounts(reserved(&t.Spec).Generic) {
			if pieces != nil {
				pieces[kind] -= amount
			}
		}
	}
	if place := p.service.Spec.Task.Placement; place != nil && place.MaxReplicas > 0 && ofService >= place.MaxReplicas {
		return false
	}
	for kind, amount := range shoal.GenericCounts(need.Generic) {
		if amount > pieces[kind] {
			return false
		}
	}
	return (need.NanoCPUs == 0 || need.NanoCPUs <= free.NanoCPUs) && (need.MemoryBytes == 0 || need.MemoryBytes <= free.MemoryBytes)
}

func reserved(spec *shoal.TaskSpec) shoal.Resources {
	if spec.Resources == nil || spec.Resources.Reservations == nil {
		return shoal.Resources{}
	}
	return *spec.Resources.Reservations
}
