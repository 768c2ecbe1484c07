package orchestrator

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// job runs tasks until enough of them have completed. Every change of the spec begins a new iteration, numbered by the spec's
// version.
func (p *plan) job() {
	if p.service.JobStatus == nil || p.service.JobStatus.Iteration != p.service.SpecVersion {
		next := *p.service
		next.JobStatus = &shoal.JobStatus{Iteration: p.service.SpecVersion, LastExecution: p.now}
		p.putService(&next)
	}
	for _, t := range p.sorted() {
		if t.JobIteration == nil || *t.JobIteration != p.service.JobStatus.Iteration {
			p.desire(t, shoal.TaskRemove)
		}
	}
	all := p.slots()
	for key, tasks := range all {
		all[key] = slices.DeleteFunc(tasks, func(t *shoal.Task) bool { return t.DesiredState == shoal.TaskRemove })
	}
	if p.service.Spec.Mode.GlobalJob != nil {
		for _, node := range p.eligible() {
			p.jobSlot(slotKey{node: node.ID}, all, true)
		}
		return
	}
	mode := p.service.Spec.Mode.ReplicatedJob
	total, concurrent := completions(mode)
	active := uint64(0)
	for slot := uint64(1); slot <= total; slot++ {
		if p.jobSlot(slotKey{slot: slot}, all, active < concurrent) {
			active++
		}
	}
}

// completions is how many tasks of a job must complete, and how many may be under way at once.
func completions(mode *shoal.ReplicatedJob) (total, concurrent uint64) {
	concurrent = 1
	if mode.MaxConcurrent != nil {
		concurrent = *mode.MaxConcurrent
	}
	total = concurrent
	if mode.TotalCompletions != nil {
		total = *mode.TotalCompletions
	}
	if concurrent == 0 {
		concurrent = total
	}
	return total, concurrent
}

// jobSlot looks after one slot of a job and tells whether a task in it has yet to complete. It creates that task only if may is
// true.
func (p *plan) jobSlot(key slotKey, all map[slotKey][]*shoal.Task, may bool) bool {
	tasks := all[key]
	for _, t := range tasks {
		if t.Status.State == shoal.TaskComplete {
			return false
		}
	}
	if p.restart(tasks) {
		return true
	}
	if now := p.current(p.planned(tasks)); len(now) > 0 {
		return slices.ContainsFunc(now, func(t *shoal.Task) bool { return !t.Status.State.Ended() })
	}
	if may {
		p.create(key.slot, key.node, shoal.TaskComplete, p.now)
	}
	return may
}

// runState is the desired state of the service's tasks that may run.
func (p *plan) runState() shoal.TaskState {
	if p.service.Spec.Mode.IsJob() {
		return shoal.TaskComplete
	}
	return shoal.TaskRunning
}

func (p *plan) putService(s *shoal.Service) {
	p.service = s
	p.write(s)
}
