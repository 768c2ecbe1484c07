// Package scheduler picks a node for every task that has its addresses and none. It reads tasks, nodes and networks' drivers
// and writes Task.NodeID and, from Pending to Assigned, Task.Status; it never creates or deletes.
package scheduler

import (
	"cmp"
	"reflect"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what a Scheduler is made of.
type Config struct{}

// Scheduler is a controller with a single key: all pending tasks are placed in one go, because each placement counts for
// the next. What it returns depends on the view alone; the index makes it quick.
type Scheduler struct {
	mu    sync.Mutex // guards index
	index index
}

// New makes a scheduler.
func New(Config) *Scheduler { return &Scheduler{} }

const onlyKey reconcile.Key = "pending"

// Name implements reconcile.Controller.
func (s *Scheduler) Name() string { return "scheduler" }

// All implements reconcile.Controller.
func (s *Scheduler) All(store.View) []reconcile.Key { return []reconcile.Key{onlyKey} }

// Concerned implements reconcile.Controller.
func (s *Scheduler) Concerned(v store.View, c store.Change) []reconcile.Key {
	switch c.Kind {
	case store.KindTask:
		if c.New == nil {
			return s.All(v)
		}
		is := c.New.(*shoal.Task)
		was, known := c.Old.(*shoal.Task)
		if pending(is) {
			if known && pending(was) && was.DesiredState == is.DesiredState {
				return nil // the scheduler's own change of the explanation
			}
			return s.All(v)
		}
		if known && counts(was) && !counts(is) {
			return s.All(v) // resources have become free
		}
	case store.KindNode:
		if c.Old == nil || c.New == nil || !sameForScheduling(c.Old.(*shoal.Node), c.New.(*shoal.Node)) {
			return s.All(v)
		}
	default:
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

// counts tells whether a task uses resources of its node.
func counts(t *shoal.Task) bool {
	return t.NodeID != "" && t.Status.State >= shoal.TaskAssigned && !t.Status.State.Ended()
}

// Reconcile implements reconcile.Controller.
func (s *Scheduler) Reconcile(v store.View, _ reconcile.Key) (store.Changes, error) {
	var changes store.Changes
	waiting := slices.DeleteFunc(v.UnassignedTasks(), func(t *shoal.Task) bool { return !pending(t) })
	if len(waiting) == 0 {
		return changes, nil
	}
	slices.SortFunc(waiting, func(a, b *shoal.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.follow(v)
	for len(waiting) > 0 {
		n := 1
		for n < len(waiting) && sameRequirements(waiting[0], waiting[n]) {
			n++
		}
		if req := requirementsOf(v, waiting[0]); waiting[0].NodeID != "" {
			s.confirmLocked(v, waiting[0], req, &changes)
		} else {
			s.spreadLocked(v, waiting[:n], req, &changes)
		}
		waiting = waiting[n:]
	}
	return changes, nil
}

// sameRequirements tells whether two tasks without a node have the same requirements.
func sameRequirements(a, b *shoal.Task) bool {
	return a.ServiceID == b.ServiceID && a.SpecVersion == b.SpecVersion && a.NodeID == "" && b.NodeID == "" && slices.Equal(a.Ports, b.Ports)
}

// confirmLocked assigns a task to the node that it was created for, if that node passes the filters.
func (s *Scheduler) confirmLocked(v store.View, t *shoal.Task, req *requirements, changes *store.Changes) {
	var nodes []*nodeInfo
	if n := s.index.nodes[t.NodeID]; n != nil && n.node != nil {
		nodes = []*nodeInfo{n}
	}
	if len(nodes) == 0 || req.firstFailed(nodes[0]) >= 0 {
		setExplanation(t, req.explanation(nodes), changes)
		return
	}
	next := assigned(v, t, t.NodeID, "scheduler confirmed task can run on preassigned node")
	s.index.place(next)
	changes.Put(next)
}

// spreadLocked assigns tasks with the same requirements to nodes, spreading them evenly.
func (s *Scheduler) spreadLocked(v store.View, tasks []*shoal.Task, req *requirements, changes *store.Changes) {
	r := s.index.newRun(req, v.Now())
	defer r.end()
	for i, t := range tasks {
		n := r.pick()
		if n == nil {
			explanation := req.explanation(s.index.sorted())
			for _, t := range tasks[i:] {
				setExplanation(t, explanation, changes)
			}
			return
		}
		next := assigned(v, t, n.node.ID, "scheduler assigned task to node")
		r.placed(next, n)
		changes.Put(next)
	}
}

func assigned(v store.View, t *shoal.Task, node shoal.NodeID, message string) *shoal.Task {
	next := *t
	next.NodeID = node
	next.Status = t.Status.WithMessage(message)
	next.Status.State, next.Status.Err = shoal.TaskAssigned, ""
	next.Status.Timestamp = v.Now().UTC()
	return &next
}

// setExplanation records why a task has no node, if that has changed.
func setExplanation(t *shoal.Task, explanation string, changes *store.Changes) {
	if t.Status.Err == explanation {
		return
	}
	next := *t
	next.Status.Err = explanation
	changes.Put(&next)
}
