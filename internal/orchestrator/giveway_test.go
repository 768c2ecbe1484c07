package orchestrator

import (
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// crowded is a stage on which a start-first update has made a replacement that finds no node: its predecessor t01 holds node n, and another
// service's task holds node n2.
func crowded(t *testing.T) *stage {
	t.Helper()
	return crowdedBy(t, shoal.Resources{NanoCPUs: 3e9}, shoal.Resources{NanoCPUs: 4e9})
}

// crowdedBy is crowded with what each task reserves and each node has.
func crowdedBy(t *testing.T, needs, has shoal.Resources) *stage {
	t.Helper()
	s := newStage(t, nil)
	for _, id := range []shoal.NodeID{"n", "n2"} {
		s.put(&shoal.Node{ID: id, Status: shoal.NodeStatus{State: shoal.NodeReady}, Description: shoal.NodeDescription{Resources: has}})
	}
	s.put(&shoal.Task{
		ID: "other", ServiceID: "o", Slot: 1, NodeID: "n2", DesiredState: shoal.TaskRunning, Status: shoal.TaskStatus{State: shoal.TaskRunning},
		Spec: shoal.TaskSpec{Resources: &shoal.ResourceRequirements{Reservations: &needs}},
	})
	s.edit(func(svc *shoal.Service) {
		svc.Spec.Update = &shoal.UpdateConfig{Order: shoal.StartFirst}
		svc.Spec.Task.Resources = &shoal.ResourceRequirements{Reservations: &needs}
	})
	s.reconcile(t)
	s.run(t, "")
	s.edit(func(svc *shoal.Service) { svc.Spec.Task.Container = &shoal.ContainerSpec{Image: "new"} })
	s.reconcile(t)
	waiting := *s.last()
	waiting.Status = shoal.TaskStatus{State: shoal.TaskPending, Timestamp: s.now, Err: "no suitable node (insufficient resources on 2 nodes)"}
	s.put(&waiting)
	return s
}

func (s *stage) put(o store.Object) { s.view = s.view.With(store.Changes{Puts: []store.Object{o}}) }

// before is the task that the newest one is to replace.
func (s *stage) before() *shoal.Task {
	for _, t := range s.view.TasksOfService("s") {
		if t.Status.State == shoal.TaskRunning {
			return t
		}
	}
	return &shoal.Task{}
}

// Advertised pieces of hardware counted for the scheduler only: the replacement of a task that had the last piece waited for ever.
func TestAReplacementWithoutAGenericResourceStartsAfterItsPredecessor(t *testing.T) {
	s := crowdedBy(t, shoal.Resources{Generic: []shoal.GenericResource{{Kind: "gpu", Count: 1}}}, shoal.Resources{Generic: []shoal.GenericResource{{Kind: "gpu", Named: "a", Count: 1}}})
	s.reconcile(t)
	if got := s.before(); got.DesiredState != shoal.TaskShutdown {
		t.Errorf("the predecessor wants %s", got.DesiredState)
	}
}

func TestAReplacementWithoutRoomStartsAfterItsPredecessor(t *testing.T) {
	s := crowded(t)
	s.reconcile(t)
	if got := s.before(); got.DesiredState != shoal.TaskShutdown {
		t.Errorf("the predecessor wants %s", got.DesiredState)
	}
	want := "; stop-first for this task: no suitable node (insufficient resources on 2 nodes)"
	if got := s.last().Status.Message; got != want {
		t.Errorf("its status is %q", got)
	}
	if got := s.view.Service("s").UpdateStatus.Message; got != "update in progress; stop-first for task "+string(s.last().ID)+": "+s.last().Status.Err {
		t.Errorf("the update is %q", got)
	}
}

// TestAReplacementWaitsForRoomThatIsBeingMade: nothing is stopped for it while another task is about to end, unless that takes too long.
func TestAReplacementWaitsForRoomThatIsBeingMade(t *testing.T) {
	s := crowded(t)
	ending := *s.view.Task("other")
	ending.DesiredState = shoal.TaskShutdown
	s.put(&ending)
	due := s.reconcile(t).RequeueAt
	if got := s.before(); got.DesiredState != shoal.TaskRunning {
		t.Fatalf("the predecessor wants %s", got.DesiredState)
	}
	if wait := due.Sub(s.now); wait <= 0 || wait > blockedAfter {
		t.Fatalf("the next look is in %s", wait)
	}
	s.now = s.now.Add(blockedAfter)
	s.reconcile(t)
	if got := s.before(); got.DesiredState != shoal.TaskShutdown {
		t.Errorf("after %s the predecessor wants %s", blockedAfter, got.DesiredState)
	}
}

// TestAReplacementThatNoNodeMayRunStopsNothing: the old task's end would not help it.
func TestAReplacementThatNoNodeMayRunStopsNothing(t *testing.T) {
	s := crowded(t)
	s.edit(func(svc *shoal.Service) {
		svc.Spec.Task.Placement = &shoal.Placement{Constraints: []string{"node.labels.none==yes"}}
	})
	waiting := *s.last()
	waiting.SpecVersion = s.view.Service("s").SpecVersion
	waiting.Spec.Placement = s.view.Service("s").Spec.Task.Placement
	s.put(&waiting)
	for range 100 {
		s.reconcile(t)
		s.now = s.now.Add(time.Second)
	}
	if got := s.before(); got.DesiredState != shoal.TaskRunning {
		t.Errorf("the predecessor wants %s", got.DesiredState)
	}
}

// TestADrainEndsAlthoughAnUpdateWaits: a task stayed on a drained node although the replacement that the drain had made for it ran, because an update that had begun
// meanwhile made both of them old, and waited for room elsewhere.
func TestADrainEndsAlthoughAnUpdateWaits(t *testing.T) {
	s := newStage(t, nil)
	for _, id := range []shoal.NodeID{"n", "n2"} {
		s.put(&shoal.Node{ID: id, Status: shoal.NodeStatus{State: shoal.NodeReady}})
	}
	two := uint64(2)
	s.edit(func(svc *shoal.Service) {
		svc.Spec.Mode.Replicated.Replicas = &two
		svc.Spec.Update = &shoal.UpdateConfig{Order: shoal.StartFirst, Parallelism: 1}
	})
	s.reconcile(t)
	s.run(t, "")
	drained := *s.view.Node("n2")
	drained.Spec.Availability = shoal.AvailabilityDrain
	s.put(&drained)
	leaving := *s.last()
	leaving.NodeID = "n2"
	s.put(&leaving)
	s.reconcile(t)
	replacement := *s.last()
	if replacement.ID == leaving.ID || replacement.Slot != leaving.Slot {
		t.Fatalf("no replacement was made: %+v", replacement)
	}
	s.edit(func(svc *shoal.Service) { svc.Spec.Task.Container = &shoal.ContainerSpec{Image: "new"} })
	s.reconcile(t) // replaces the other slot's task first, or makes its replacement wait
	replacement.NodeID, replacement.Status = "n", shoal.TaskStatus{State: shoal.TaskRunning, Timestamp: s.now}
	s.put(&replacement)
	s.reconcile(t)
	if got := s.view.Task(leaving.ID); got.DesiredState != shoal.TaskShutdown {
		t.Errorf("the task on the drained node wants %s", got.DesiredState)
	}
}
