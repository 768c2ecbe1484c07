package orchestrator

import (
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// moving is a stage on which a task of a service is being moved from node n, which runs two, to node n2, where the scheduler has found no place for it.
func moving(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, nil)
	cpu := &shoal.ResourceRequirements{Reservations: &shoal.Resources{NanoCPUs: 1e9}}
	s.put(&shoal.Node{ID: "n", Status: shoal.NodeStatus{State: shoal.NodeReady}, Description: shoal.NodeDescription{Resources: shoal.Resources{NanoCPUs: 4e9}}})
	two := uint64(2)
	s.edit(func(svc *shoal.Service) {
		svc.Spec.Mode.Replicated.Replicas = &two
		svc.Spec.Labels = map[string]string{shoal.LabelRebalance: "true"}
		svc.Spec.Task.Resources = cpu
	})
	s.reconcile(t)
	s.run(t, "")
	s.put(&shoal.Node{ID: "n2", Status: shoal.NodeStatus{State: shoal.NodeReady}, Description: shoal.NodeDescription{Resources: shoal.Resources{NanoCPUs: 1e9}}})
	s.reconcile(t)
	next := *s.last()
	if next.NodeID != "n2" {
		t.Fatalf("no task is moved to n2: the last is %+v", next)
	}
	next.Status = shoal.TaskStatus{State: shoal.TaskPending, Timestamp: s.now, Err: "no suitable node (insufficient resources on 1 node)"}
	s.put(&next)
	return s
}

// other is another service's task on n2.
func (s *stage) other(desired shoal.TaskState) {
	s.put(&shoal.Task{
		ID: "other", ServiceID: "o", Slot: 1, NodeID: "n2", DesiredState: desired, Status: shoal.TaskStatus{State: shoal.TaskRunning},
		Spec: shoal.TaskSpec{Resources: &shoal.ResourceRequirements{Reservations: &shoal.Resources{NanoCPUs: 1e9}}},
	})
}

// wanted is how many tasks of the service are meant to run, and running how many of those do.
func (s *stage) wanted() (all, running int) {
	for _, t := range s.view.TasksOfService("s") {
		if t.DesiredState == shoal.TaskRunning {
			all++
			if t.Status.State == shoal.TaskRunning {
				running++
			}
		}
	}
	return all, running
}

// A task that was to be moved to a node that filled up meanwhile stayed Pending for good, and nothing else of the service was moved.
func TestAMoveToANodeThatHasFilledUpIsGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*stage)
		after  time.Duration // until the move is given up
	}{
		"filled up":              {func(s *stage) { s.other(shoal.TaskRunning) }, 0},
		"being emptied":          {func(s *stage) { s.other(shoal.TaskShutdown) }, blockedAfter},
		"another reason":         {func(*stage) {}, blockedAfter},
		"drained":                {func(s *stage) { s.node2(func(n *shoal.Node) { n.Spec.Availability = shoal.AvailabilityDrain }) }, 0},
		"paused":                 {func(s *stage) { s.node2(func(n *shoal.Node) { n.Spec.Availability = shoal.AvailabilityPause }) }, 0},
		"down":                   {func(s *stage) { s.node2(func(n *shoal.Node) { n.Status.State = shoal.NodeDown }) }, 0},
		"not wanted there since": {func(s *stage) { s.node2(func(n *shoal.Node) { n.Description.Resources.NanoCPUs = 0 }) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := moving(t)
			move := s.last().ID
			test.change(s)
			began := s.now
			for s.reconcile(t); s.view.Task(move) != nil && s.view.Task(move).DesiredState == shoal.TaskRunning; s.reconcile(t) {
				if s.now = s.now.Add(time.Second); s.now.Sub(began) > time.Hour {
					t.Fatal("the move is never given up")
				}
			}
			if took := s.now.Sub(began); took != test.after {
				t.Errorf("given up after %v, want %v", took, test.after)
			}
			if all, running := s.wanted(); all != 2 || running != 2 {
				t.Errorf("%d tasks run, of %d that are meant to; want both of the old ones and no other", running, all)
			}
			tasks := len(s.view.TasksOfService("s"))
			for range 120 { // it is not tried again at once
				s.now = s.now.Add(time.Second)
				s.reconcile(t)
			}
			if now := len(s.view.TasksOfService("s")); now != tasks {
				t.Errorf("%d tasks have become %d", tasks, now)
			}
		})
	}
}

func (s *stage) node2(change func(*shoal.Node)) {
	next := *s.view.Node("n2")
	change(&next)
	s.put(&next)
}

// Once there is room a move that was given up is tried again.
func TestAMoveIsTriedAgain(t *testing.T) {
	s := moving(t)
	s.other(shoal.TaskRunning)
	s.reconcile(t)
	s.other(shoal.TaskRemove)
	gone := *s.view.Task("other")
	gone.Status.State = shoal.TaskShutdown
	s.put(&gone)
	began := s.now
	for {
		due := s.reconcile(t).RequeueAt
		if all, _ := s.wanted(); all == 3 {
			break
		}
		if due.IsZero() || due.Sub(began) > time.Hour {
			t.Fatalf("the next look is at %v", due)
		}
		s.now = due
	}
	if got := s.last(); got.NodeID != "n2" || s.now.Sub(began) != 10*time.Minute {
		t.Errorf("after %v a task for %s is made", s.now.Sub(began), got.NodeID)
	}
}
