package scheduler

import (
	"fmt"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

func node(id string, labels map[string]string) *shoal.Node {
	return &shoal.Node{
		ID: shoal.NodeID(id), Role: shoal.RoleWorker, Spec: shoal.NodeSpec{Availability: shoal.AvailabilityActive, Labels: labels},
		Status: shoal.NodeStatus{State: shoal.NodeReady},
		Description: shoal.NodeDescription{
			Hostname: id, Platform: shoal.Platform{OS: "linux", Architecture: "x86_64"}, Resources: shoal.Resources{NanoCPUs: 2e9, MemoryBytes: 1 << 30},
		},
	}
}

func task(slot uint64, spec shoal.TaskSpec) *shoal.Task {
	return &shoal.Task{
		ID: shoal.TaskID(fmt.Sprint("t", slot)), ServiceID: "s", Slot: slot, Spec: spec, DesiredState: shoal.TaskRunning,
		Status: shoal.TaskStatus{State: shoal.TaskPending},
	}
}

// schedule returns the view after all pending tasks were looked at.
func schedule(t *testing.T, objects ...store.Object) store.View {
	t.Helper()
	v := storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: objects})
	changes, err := New(Config{}).Reconcile(v, onlyKey)
	if err != nil {
		t.Fatal(err)
	}
	v = v.With(changes)
	if again, _ := New(Config{}).Reconcile(v, onlyKey); !again.Empty() {
		t.Errorf("a second look changes %d objects", len(again.Puts))
	}
	return v
}

func TestANodeWhoseDaemonIsAwayIsGivenNothing(t *testing.T) {
	away := node("n1", nil)
	away.Status.Absent = true
	if got := schedule(t, away, node("n2", nil), task(1, shoal.TaskSpec{})).Task("t1"); got.NodeID != "n2" {
		t.Errorf("placed on %q", got.NodeID)
	}
	if got := schedule(t, away, task(1, shoal.TaskSpec{})).Task("t1"); got.NodeID != "" || got.Status.Err != "no suitable node (1 node not available for new tasks)" {
		t.Errorf("placed on %q: %s", got.NodeID, got.Status.Err)
	}
}

func TestExplanations(t *testing.T) {
	hostPort := []shoal.Port{{Protocol: shoal.TCP, Target: 80, Published: 8088, Mode: shoal.PublishHost}}
	down := node("n3", nil)
	down.Status.State = shoal.NodeDown
	holder := task(9, shoal.TaskSpec{})
	holder.NodeID, holder.Status.State, holder.Ports = "n1", shoal.TaskRunning, hostPort
	for _, c := range []struct {
		name string
		task *shoal.Task
		want string
	}{
		{"port and constraint", func() *shoal.Task {
			x := task(1, shoal.TaskSpec{Placement: &shoal.Placement{Constraints: []string{"node.hostname==N1"}}})
			x.Ports = hostPort
			return x
		}(), "no suitable node (1 node not available for new tasks; scheduling constraints not satisfied on 1 node; host-mode port already in use on 1 node)"},
		{"memory", task(1, shoal.TaskSpec{Resources: &shoal.ResourceRequirements{Reservations: &shoal.Resources{MemoryBytes: 2 << 30}}}),
			"no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)"},
		{"platform", task(1, shoal.TaskSpec{Placement: &shoal.Placement{Platforms: []shoal.Platform{{OS: "linux", Architecture: "arm64"}}}}),
			"no suitable node (unsupported platform on 2 nodes; 1 node not available for new tasks)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := schedule(t, node("n1", nil), node("n2", nil), down, holder, c.task)
			if got := v.Task("t1"); got.Status.Err != c.want || got.NodeID != "" {
				t.Errorf("got %q on %q, want %q", got.Status.Err, got.NodeID, c.want)
			}
		})
	}
}

func TestSpreadsOverLabelsFirst(t *testing.T) {
	objects := []store.Object{
		node("a1", map[string]string{"zone": "a"}), node("a2", map[string]string{"zone": "a"}), node("b1", map[string]string{"zone": "b"}),
	}
	for slot := uint64(1); slot <= 4; slot++ {
		objects = append(objects, task(slot, shoal.TaskSpec{Placement: &shoal.Placement{Preferences: []shoal.PlacementPreference{{SpreadOver: "node.labels.zone"}}}}))
	}
	v := schedule(t, objects...)
	for id, want := range map[string]int{"a1": 1, "a2": 1, "b1": 2} {
		if got := len(v.TasksOnNode(shoal.NodeID(id))); got != want {
			t.Errorf("%d tasks on %s, want %d", got, id, want)
		}
	}
}

func TestMaxReplicasPerNode(t *testing.T) {
	spec := shoal.TaskSpec{Placement: &shoal.Placement{MaxReplicas: 1}}
	v := schedule(t, node("n1", nil), task(1, spec), task(2, spec))
	if got := v.Task("t2").Status.Err; v.Task("t1").NodeID != "n1" || got != "no suitable node (max replicas per node limit exceed)" {
		t.Errorf("%q", got)
	}
}

func TestArchitectureNames(t *testing.T) {
	v := schedule(t, node("n1", nil), task(1, shoal.TaskSpec{Placement: &shoal.Placement{
		Platforms: []shoal.Platform{{OS: "linux", Architecture: "amd64"}}, Constraints: []string{"node.platform.arch==amd64", "node.role!=manager"},
	}}))
	if v.Task("t1").NodeID != "n1" {
		t.Error(v.Task("t1").Status.Err)
	}
}

// What nodes advertise of generic resources limits how many tasks that reserve one they are given.
func TestAdvertisedPiecesArePlaced(t *testing.T) {
	with := node("a", nil)
	with.Description.Resources.Generic = []shoal.GenericResource{{Kind: "gpu", Named: "first", Count: 1}, {Kind: "gpu", Named: "second", Count: 1}}
	needs := shoal.TaskSpec{Resources: &shoal.ResourceRequirements{Reservations: &shoal.Resources{Generic: []shoal.GenericResource{{Kind: "gpu", Count: 1}}}}}
	v := schedule(t, with, node("b", nil), task(1, needs), task(2, needs), task(3, needs))
	placed := 0
	for _, one := range v.Tasks() {
		if one.NodeID == "a" {
			placed++
		} else if one.NodeID != "" {
			t.Errorf("task %s is on %s", one.ID, one.NodeID)
		}
	}
	if placed != 2 {
		t.Errorf("%d tasks have one of two pieces", placed)
	}
}
