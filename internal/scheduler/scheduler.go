// Package scheduler picks a node for every task that has its addresses and none. It reads tasks and nodes and writes
// Task.NodeID and, from Pending to Assigned, Task.Status; it never creates or deletes.
package scheduler

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what a Scheduler is made of.
type Config struct{}

// Scheduler is a controller with a single key: all pending tasks are placed in one go, because each placement counts for
// the next.
type Scheduler struct{}

// New makes a scheduler.
func New(Config) *Scheduler { return &Scheduler{} }

const everything shoal.ID = "pending"

// Name implements reconcile.Controller.
func (s *Scheduler) Name() string { return "scheduler" }

// All implements reconcile.Controller.
func (s *Scheduler) All(store.View) []shoal.ID { return []shoal.ID{everything} }

// Concerned implements reconcile.Controller.
func (s *Scheduler) Concerned(v store.View, c store.Change) []shoal.ID {
	switch c.Kind {
	case store.KindTask:
		if c.New != nil && pending(c.New.(*shoal.Task)) {
			was, known := c.Old.(*shoal.Task)
			if known && pending(was) && was.DesiredState == c.New.(*shoal.Task).DesiredState {
				return nil // our own explanation
			}
			return s.All(v)
		}
		if c.New == nil || !counts(c.New.(*shoal.Task)) {
			return s.ifPending(v) // something may have become free
		}
	case store.KindNode:
		if c.Old == nil || c.New == nil || !sameForScheduling(c.Old.(*shoal.Node), c.New.(*shoal.Node)) {
			return s.ifPending(v)
		}
	default:
	}
	return nil
}

func (s *Scheduler) ifPending(v store.View) []shoal.ID {
	if slices.ContainsFunc(v.UnassignedTasks(), pending) {
		return s.All(v)
	}
	return nil
}

func sameForScheduling(a, b *shoal.Node) bool {
	return a.Status == b.Status && a.Role == b.Role && reflect.DeepEqual(a.Spec, b.Spec) && reflect.DeepEqual(a.Description, b.Description)
}

// pending tells whether a task waits for a node.
func pending(t *shoal.Task) bool {
	return t.Status.State == shoal.TaskPending && t.DesiredState <= shoal.TaskComplete
}

// counts tells whether a task takes room on its node.
func counts(t *shoal.Task) bool {
	return t.NodeID != "" && t.Status.State >= shoal.TaskAssigned && !t.Status.State.Ended()
}

// Reconcile implements reconcile.Controller.
func (s *Scheduler) Reconcile(v store.View, _ shoal.ID) (store.Changes, error) {
	var changes store.Changes
	waiting := slices.DeleteFunc(v.UnassignedTasks(), func(t *shoal.Task) bool { return !pending(t) })
	if len(waiting) == 0 {
		return changes, nil
	}
	slices.SortFunc(waiting, func(a, b *shoal.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	hosts := hostsOf(v)
	for _, t := range waiting {
		next := *t
		next.Status.Timestamp = v.Now().UTC()
		h, explanation := choose(hosts, t)
		if h == nil {
			if t.Status.Err == explanation {
				continue
			}
			next.Status.Timestamp = t.Status.Timestamp
			next.Status.Err = explanation
			changes.Put(&next)
			continue
		}
		next.Status.State, next.Status.Err = shoal.TaskAssigned, ""
		next.Status.Message = "scheduler assigned task to node"
		if t.NodeID != "" {
			next.Status.Message = "scheduler confirmed task can run on preassigned node"
		}
		next.NodeID = h.node.ID
		h.add(&next)
		changes.Put(&next)
	}
	return changes, nil
}

// choose picks the best host for a task, or explains why there is none.
func choose(hosts []*host, t *shoal.Task) (*host, string) {
	if t.NodeID != "" {
		hosts = slices.DeleteFunc(slices.Clone(hosts), func(h *host) bool { return h.node.ID != t.NodeID })
	}
	fit, explanation := filtered(hosts, t)
	if len(fit) == 0 {
		return nil, explanation
	}
	return spread(fit, t), ""
}
