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

// settle lets agents and controllers work until nothing is left to do, and looks at the world after every step.
func (w *world) settle(t *rapid.T, look func()) {
	for range 600 {
		before := w.view.Mark()
		if !w.reconcile() {
			t.Fatal("the controllers do not come to rest")
		}
		look()
		for _, task := range w.view.Tasks() {
			if next := step(task); next != task.Status.State && w.view.Node(task.NodeID).Ready() {
				w.put(observe(task, next, w.now))
				look()
			}
		}
		if w.view.Mark() == before {
			if w.due.IsZero() {
				return
			}
			w.now = w.due
		}
	}
	t.Fatal("the cluster does not come to rest")
}

func (w *world) editNode(i int, edit func(*shoal.Node)) {
	next := *w.view.Node(shoal.NodeID(fmt.Sprint("n", i)))
	edit(&next)
	w.put(&next)
}

func (w *world) running(service shoal.ServiceID) map[shoal.NodeID]int {
	on := map[shoal.NodeID]int{}
	for _, t := range w.view.TasksOfService(service) {
		if up(t) {
			on[t.NodeID]++
		}
	}
	return on
}

func sum(counts map[shoal.NodeID]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// TestRebalance: nodes join a cluster whose services run. Every move makes the distribution more even, so that they end; no more
// move at once than the budget says, and none stops before its replacement runs.
func TestRebalance(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(rt *rapid.T) {
		const nodes = 6
		w := newWorld(empty, nodes)
		there := rapid.IntRange(1, nodes).Draw(rt, "nodes at first")
		for i := 1; i <= nodes; i++ {
			zone := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "zone")
			w.editNode(i, func(n *shoal.Node) {
				n.Spec.Labels = map[string]string{"zone": zone}
				if i > there {
					n.Status.State = shoal.NodeDown
				}
			})
		}
		replicas, budget := rapid.Uint64Range(1, 12).Draw(rt, "replicas"), rapid.IntRange(1, 3).Draw(rt, "budget")
		spec := shoal.ServiceSpec{
			Name: "web", Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &replicas}},
			Labels: map[string]string{
				shoal.LabelRebalance: "true", shoal.LabelRebalanceBudget: fmt.Sprint(budget),
				shoal.LabelRebalanceCooldown: rapid.SampledFrom([]string{"0s", "30s", ""}).Draw(rt, "cooldown"),
			},
			Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "0"}, Placement: &shoal.Placement{}},
		}
		byZone := rapid.Bool().Draw(rt, "by zone")
		if byZone {
			spec.Task.Placement.Preferences = []shoal.PlacementPreference{{SpreadOver: "node.labels.zone"}}
		}
		w.put(&shoal.Service{ID: "web", Spec: spec})
		w.settle(rt, func() {})
		if n := len(w.view.TasksOfService("web")); n != int(replicas) {
			rt.Fatalf("%d tasks were made where %d are even", n, replicas)
		}
		for i := there + 1; i <= nodes; i++ {
			w.editNode(i, func(n *shoal.Node) { n.Status.State = shoal.NodeReady })
		}
		w.now = w.now.Add(time.Hour)
		w.settle(rt, func() {
			if n := sum(w.running("web")); n < int(replicas) || n > int(replicas)+budget {
				rt.Fatalf("%d tasks run; %d replicas, budget %d", n, replicas, budget)
			}
		})
		checkEven(rt, w, byZone)
		if moved := len(w.view.TasksOfService("web")) - int(replicas); moved > int(replicas) {
			rt.Fatalf("%d moves for %d tasks", moved, replicas)
		}
	})
}

func checkEven(t *rapid.T, w *world, byZone bool) {
	on := w.running("web")
	zones := map[string]int{}
	for _, a := range w.view.Nodes() {
		zones[a.Spec.Labels["zone"]] += on[a.ID]
		for _, b := range w.view.Nodes() {
			if (!byZone || a.Spec.Labels["zone"] == b.Spec.Labels["zone"]) && on[a.ID]-on[b.ID] > 1 {
				t.Fatalf("uneven: %v", on)
			}
		}
	}
	if difference := zones["a"] - zones["b"]; byZone && len(zones) == 2 && (difference > 1 || difference < -1) {
		t.Fatalf("uneven: %v", zones)
	}
}

// TestDrainKeepsTheMinimum drains nodes of a service that asks for care: by its label, or by start-first.
func TestDrainKeepsTheMinimum(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(empty, 4)
		replicas := rapid.IntRange(1, 6).Draw(rt, "replicas")
		least := rapid.IntRange(1, replicas).Draw(rt, "least")
		r := uint64(replicas)
		spec := shoal.ServiceSpec{
			Name: "web", Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &r}},
			Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "0"}},
		}
		if rapid.Bool().Draw(rt, "start-first") {
			spec.Update, least = &shoal.UpdateConfig{Parallelism: 1, Order: shoal.StartFirst}, replicas
		} else {
			spec.Labels = map[string]string{shoal.LabelDrainMinAvailable: fmt.Sprint(least)}
		}
		w.put(&shoal.Service{ID: "web", Spec: spec})
		w.settle(rt, func() {})
		drained := rapid.IntRange(1, 3).Draw(rt, "drained")
		for i := range drained {
			w.editNode(i+1, func(n *shoal.Node) { n.Spec.Availability = shoal.AvailabilityDrain })
		}
		w.settle(rt, func() {
			if n := sum(w.running("web")); n < least {
				rt.Fatalf("%d of %d tasks run, at least %d should", n, replicas, least)
			}
		})
		on := w.running("web")
		for i := range drained {
			if on[shoal.NodeID(fmt.Sprint("n", i+1))] > 0 {
				rt.Fatalf("tasks are left on a drained node: %v", on)
			}
		}
		if sum(on) != replicas {
			rt.Fatalf("%v are %d tasks, not %d", on, sum(on), replicas)
		}
	})
}
