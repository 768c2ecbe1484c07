package orchestrator

import (
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// dependencies is the services that a service names in its label, by full name or by the name within its stack. Those that do not
// exist are left out.
func dependencies(v store.View, s *shoal.Service) []*shoal.Service {
	label := s.Spec.Labels[shoal.LabelDependsOn]
	if label == "" {
		return nil
	}
	var all []*shoal.Service
	for name := range strings.SplitSeq(label, ",") {
		name = strings.TrimSpace(name)
		found := v.ServiceByName(name)
		if stack := s.Spec.Labels[shoal.LabelStack]; stack != "" {
			if own := v.ServiceByName(stack + "_" + name); own != nil {
				found = own
			}
		}
		if found != nil && found.ID != s.ID {
			all = append(all, found)
		}
	}
	return all
}

// dependsOn tells whether a service depends on another, directly or not.
func dependsOn(v store.View, s *shoal.Service, on shoal.ServiceID, seen map[shoal.ServiceID]bool) bool {
	for _, d := range dependencies(v, s) {
		if d.ID == on {
			return true
		}
		if !seen[d.ID] {
			seen[d.ID] = true
			if dependsOn(v, d, on, seen) {
				return true
			}
		}
	}
	return false
}

// waitsForDependencies tells whether the service must not start yet: none of its tasks runs, and a service it depends on is not
// ready. Services that depend on each other in a circle do not wait for each other. A plan changes none of this.
func (p *plan) waitsForDependencies() bool {
	if p.waits == nil {
		p.waits = new(p.dependenciesMissing())
	}
	return *p.waits
}

func (p *plan) dependenciesMissing() bool {
	if p.service.Spec.Labels[shoal.LabelDependsOn] == "" {
		return false
	}
	for _, t := range p.tasks {
		if t.Status.State == shoal.TaskRunning {
			return false
		}
	}
	for _, d := range dependencies(p.view, p.service) {
		if !isReadyForDependents(p.view, d) && !dependsOn(p.view, d, p.service.ID, map[shoal.ServiceID]bool{}) {
			return true
		}
	}
	return false
}

// isReadyForDependents tells whether services that depend on this one may start: a task of it runs, or, for a job, its present
// iteration is complete. A service with no replicas is always ready.
func isReadyForDependents(v store.View, s *shoal.Service) bool {
	tasks := v.TasksOfService(s.ID)
	switch {
	case s.Spec.Mode.IsJob():
		return complete(s, tasks)
	case s.Spec.Mode.Replicated != nil && s.Spec.Replicas() == 0:
		return true
	default:
		return slices.ContainsFunc(tasks, func(t *shoal.Task) bool { return wanted(t) && t.Status.State == shoal.TaskRunning })
	}
}

// complete tells whether all tasks of a job's present iteration have completed.
func complete(s *shoal.Service, tasks []*shoal.Task) bool {
	need, done := uint64(1), uint64(0)
	if mode := s.Spec.Mode.ReplicatedJob; mode != nil {
		need, _ = completions(mode)
	}
	for _, t := range tasks {
		switch {
		case t.JobIteration == nil || s.JobStatus == nil || *t.JobIteration != s.JobStatus.Iteration:
		case t.Status.State == shoal.TaskComplete:
			done++
		case wanted(t):
			return false
		}
	}
	return done >= need
}

// dependents is the services that depend on the one with this ID.
func dependents(v store.View, id shoal.ServiceID) []reconcile.Key {
	var keys []reconcile.Key
	for _, s := range v.DependentServices() {
		if slices.ContainsFunc(dependencies(v, s), func(d *shoal.Service) bool { return d.ID == id }) {
			keys = append(keys, reconcile.Key(s.ID))
		}
	}
	return keys
}
