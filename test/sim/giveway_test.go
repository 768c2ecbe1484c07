package sim

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// TestDrainsAndUpdatesEndWithoutRoom: a service of which a node can run only one task at a time is updated while nodes are drained, paused and made
// active. Whenever the cluster has come to rest, no task is left on a drained node; in the end each slot has one task, of the last spec.
func TestDrainsAndUpdatesEndWithoutRoom(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(rt *rapid.T) {
		const nodes = 4
		w := newWorld(empty, nodes)
		replicas := rapid.Uint64Range(1, nodes).Draw(rt, "replicas")
		w.put(&shoal.Service{ID: "web", Spec: withoutRoom(rt, replicas)})
		w.settle(rt, func() {})
		for range rapid.IntRange(1, 12).Draw(rt, "moves") {
			switch rapid.IntRange(0, 3).Draw(rt, "move") {
			case 0, 1:
				w.editNode(rapid.IntRange(1, nodes).Draw(rt, "node"), func(n *shoal.Node) {
					n.Spec.Availability = rapid.SampledFrom([]shoal.Availability{
						shoal.AvailabilityActive, shoal.AvailabilityPause, shoal.AvailabilityDrain,
					}).Draw(rt, "availability")
				})
			case 2:
				w.deploy(rapid.IntRange(0, 3).Draw(rt, "image"))
			case 3:
				w.settle(rt, func() {})
				checkDrained(rt, w)
			}
			if !w.reconcile() {
				rt.Fatal("the controllers do not come to rest")
			}
			for _, task := range w.view.Tasks() {
				if next := step(task); next != task.Status.State && rapid.Bool().Draw(rt, "reports") {
					w.put(observe(task, next, w.now))
				}
			}
		}
		w.settle(rt, func() {})
		checkDrained(rt, w)
		for i := range nodes {
			w.editNode(i+1, func(n *shoal.Node) { n.Spec.Availability = shoal.AvailabilityActive })
		}
		w.settle(rt, func() {})
		checkOnePerSlot(rt, w, int(replicas))
	})
}

func withoutRoom(t *rapid.T, replicas uint64) shoal.ServiceSpec {
	spec := shoal.ServiceSpec{
		Name: "web", Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &replicas}},
		Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "0"}},
		Update: &shoal.UpdateConfig{
			Parallelism: rapid.Uint64Range(0, 2).Draw(t, "parallelism"),
			Order:       rapid.SampledFrom([]shoal.UpdateOrder{shoal.StopFirst, shoal.StartFirst, shoal.StartFirst}).Draw(t, "order"),
		},
	}
	switch rapid.IntRange(0, 2).Draw(t, "what is scarce") {
	case 0:
		spec.Endpoint = &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: 80, Published: 8080, Mode: shoal.PublishHost}}}
	case 1:
		spec.Task.Resources = &shoal.ResourceRequirements{Reservations: &shoal.Resources{NanoCPUs: 40e9}}
	case 2:
		spec.Task.Placement = &shoal.Placement{MaxReplicas: 1}
	}
	return spec
}

// deploy gives the service another image, as the API does.
func (w *world) deploy(image int) {
	next := *w.view.Service("web")
	previous := next.Spec
	next.PreviousSpec, next.UpdateStatus = &previous, nil
	next.Spec.Task.Container = &shoal.ContainerSpec{Image: fmt.Sprint(image)}
	next.SpecVersion++
	w.put(&next)
}

// checkDrained: no task is left on a drained node.
func checkDrained(t *rapid.T, w *world) {
	for _, task := range w.view.Tasks() {
		if n := w.view.Node(task.NodeID); n != nil && n.Spec.Availability == shoal.AvailabilityDrain && !task.Status.State.Ended() {
			t.Fatalf("%s: task %s is left on a drained node, %s, wants %s", w.now.Format(time.TimeOnly), task.ID, task.Status.State, task.DesiredState)
		}
	}
}

func checkOnePerSlot(t *rapid.T, w *world, replicas int) {
	s, slots := w.view.Service("web"), map[uint64]int{}
	for _, task := range w.view.Tasks() {
		if task.Status.State.Ended() {
			continue
		}
		if slots[task.Slot]++; !up(task) || task.Spec.Container.Image != s.Spec.Task.Container.Image {
			t.Fatalf("task %s of image %s is %s, wants %s %q", task.ID, task.Spec.Container.Image, task.Status.State, task.DesiredState, task.Status.Err)
		}
	}
	if len(slots) != replicas {
		t.Fatalf("%d slots run, want %d", len(slots), replicas)
	}
	for slot, n := range slots {
		if n != 1 {
			t.Fatalf("slot %d has %d tasks", slot, n)
		}
	}
	if u := s.UpdateStatus; u != nil && u.State != shoal.UpdateCompleted {
		t.Fatalf("the update is %s: %s", u.State, u.Message)
	}
}
