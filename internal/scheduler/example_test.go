package scheduler_test

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// A controller reads a view and returns what to change. View.With shows the result without a store to write to.
func Example() {
	s, err := store.Open(context.Background(), store.Config{Backend: store.NewMemory()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ready := shoal.NodeStatus{State: shoal.NodeReady}
	v := s.View().With(store.Changes{Puts: []store.Object{
		&shoal.Node{ID: "a", Status: ready, Spec: shoal.NodeSpec{Availability: shoal.AvailabilityDrain}},
		&shoal.Node{ID: "b", Status: ready, Spec: shoal.NodeSpec{Availability: shoal.AvailabilityActive}},
		&shoal.Task{ID: "t", ServiceID: "web", Slot: 1, DesiredState: shoal.TaskRunning, Status: shoal.TaskStatus{State: shoal.TaskPending}},
	}})
	placer := scheduler.New(scheduler.Config{})
	for _, key := range placer.All(v) {
		changes, err := placer.Reconcile(v, key)
		if err != nil {
			fmt.Println(err)
			return
		}
		v = v.With(changes)
	}
	task := v.Task("t")
	fmt.Println(task.NodeID, task.Status.State, task.Status.Message)
	// Output: b assigned scheduler assigned task to node
}
