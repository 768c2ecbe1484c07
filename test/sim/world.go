// Package sim runs the real controllers over simulated nodes: step by step in a world whose every move a property draws, and
// as a fleet of a thousand nodes in virtual time. It reads and writes nothing outside the process.
package sim

import (
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// world is a cluster in which things happen only when the test makes them happen.
type world struct {
	view        store.View
	now         time.Time
	controllers []reconcile.Controller
	due         time.Time // when the controllers want to look again; zero for never
}

func newWorld(empty store.View, nodes int) *world {
	ids := 0
	w := &world{now: time.Unix(1e9, 0).UTC(), view: empty, controllers: []reconcile.Controller{
		orchestrator.New(orchestrator.Config{NewID: func() shoal.TaskID {
			ids++
			return shoal.TaskID(fmt.Sprintf("t%05d", ids))
		}}),
		allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
	}}
	w.put(&shoal.Cluster{ID: "cluster", Spec: shoal.ClusterSpec{Name: shoal.ClusterName, TaskHistoryLimit: 3}})
	for i := range nodes {
		w.put(newNode(i + 1))
	}
	return w
}

func newNode(i int) *shoal.Node {
	return &shoal.Node{
		ID: shoal.NodeID(fmt.Sprint("n", i)), Role: shoal.RoleWorker,
		Spec:        shoal.NodeSpec{Availability: shoal.AvailabilityActive, Labels: map[string]string{}},
		Status:      shoal.NodeStatus{State: shoal.NodeReady},
		Description: shoal.NodeDescription{Hostname: fmt.Sprint("n", i), Resources: shoal.Resources{NanoCPUs: 64e9, MemoryBytes: 64 << 30}},
	}
}

func (w *world) put(o store.Object) { w.view = w.view.With(store.Changes{Puts: []store.Object{o}}) }

// reconcile runs the controllers until none has changes; it is false if they do not come to an end.
func (w *world) reconcile() bool {
	w.due = time.Time{}
	for range 20 {
		calm := true
		for _, c := range w.controllers {
			for _, key := range c.All(w.view) {
				changes, err := c.Reconcile(w.view.At(w.now), key)
				if err != nil {
					return false
				}
				if at := changes.RequeueAt; !at.IsZero() && (w.due.IsZero() || at.Before(w.due)) {
					w.due = at
				}
				calm = calm && changes.Empty()
				w.view = w.view.With(changes)
			}
		}
		if calm {
			return true
		}
	}
	return false
}

// step is the next state of a task whose agent works; the same state if there is nothing to do.
func step(t *shoal.Task) shoal.TaskState {
	state := t.Status.State
	switch {
	case t.NodeID == "" || state < shoal.TaskAssigned || state.Ended() || !t.HeldUntil.IsZero():
		return state
	case t.DesiredState >= shoal.TaskShutdown:
		return shoal.TaskShutdown
	case state == shoal.TaskAssigned:
		return shoal.TaskPreparing
	case state == shoal.TaskPreparing:
		return shoal.TaskReady
	case t.DesiredState == shoal.TaskReady:
		return state
	case state == shoal.TaskReady:
		return shoal.TaskRunning
	case t.DesiredState == shoal.TaskComplete:
		return shoal.TaskComplete
	default:
		return state
	}
}

// observe reports a task's state.
func observe(t *shoal.Task, state shoal.TaskState, now time.Time) *shoal.Task {
	next := *t
	next.Observe(shoal.TaskStatus{State: state, Timestamp: now})
	return &next
}

// fit tells whether a node may keep tasks of a service.
func fit(n *shoal.Node, s *shoal.Service) bool {
	if n == nil || n.Status.State != shoal.NodeReady || n.Spec.Availability == shoal.AvailabilityDrain {
		return false
	}
	if s.Spec.Task.Placement == nil {
		return true
	}
	constraints, err := shoal.ParseConstraints(s.Spec.Task.Placement.Constraints)
	if err != nil {
		return false
	}
	for _, c := range constraints {
		if !c.SatisfiedBy(n) {
			return false
		}
	}
	return true
}

// up tells whether a task runs and is meant to.
func up(t *shoal.Task) bool {
	return t.Status.State == shoal.TaskRunning && t.DesiredState == shoal.TaskRunning
}
