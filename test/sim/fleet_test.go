package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	fleetNodes    = 1000
	fleetServices = 200
	fleetReplicas = 100
	fleetFaults   = 600 // ticks with faults: a minute
	fleetSeed     = 1
)

// TestFleet runs the whole control loop over 1,000 nodes and 20,000 tasks in virtual time. For a minute nodes die and come back,
// drain, tasks crash and images change, good and bad ones; then all must come to rest. `go test ./test/sim -run Fleet`; with the
// race detector it takes minutes and tells nothing that the small worlds do not, so it is left out there.
func TestFleet(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes it ten times slower")
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		backend := store.NewMemory()
		s, err := store.Open(ctx, store.Config{Backend: backend})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Run(ctx) }()
		if _, err := s.Commit(ctx, fleetState()); err != nil {
			t.Fatal(err)
		}
		loop := reconcile.New(reconcile.Config{Store: s, Leadership: backend, Controllers: []reconcile.Controller{
			orchestrator.New(orchestrator.Config{}), allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
		}})
		slots := overlaps{}
		f := newFleet(s, fleetSeed, slots.count)
		go func() { _ = loop.Run(ctx) }()
		f.until(ctx, t, "the services are up", settled)
		for range fleetFaults {
			if err := f.injectFault(ctx); err != nil {
				t.Fatal(err)
			}
			f.tick(ctx, t)
		}
		if err := f.endFaults(ctx); err != nil {
			t.Fatal(err)
		}
		f.until(ctx, t, "the cluster has come to rest", settled)
		t.Logf("revision %d after %s", s.View().Revision(), time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)))
	})
}

func fleetState() store.Changes {
	var c store.Changes
	c.Put(&shoal.Cluster{ID: "cluster", Spec: shoal.ClusterSpec{Name: shoal.ClusterName, TaskHistoryLimit: 2}})
	for i := range fleetNodes {
		c.Put(newNode(i + 1))
	}
	for i := range fleetServices {
		replicas := uint64(fleetReplicas)
		order := []shoal.UpdateOrder{shoal.StopFirst, shoal.StartFirst}[i%2]
		c.Put(&shoal.Service{ID: shoal.ServiceID(fmt.Sprint("s", i)), Spec: shoal.ServiceSpec{
			Name: fmt.Sprint("s", i), Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &replicas}},
			Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "good"}},
			Update: &shoal.UpdateConfig{
				Parallelism: 20, Order: order,
				FailureAction: []shoal.FailureAction{shoal.PauseOnFailure, shoal.RollbackOnFailure, shoal.ContinueOnFailure}[i%3],
			},
		}})
	}
	return c
}

// overlaps counts the tasks that are wanted running in each slot.
type overlaps map[string]int

// count counts the changes of one revision; more than two tasks wanted in one slot are an error.
func (o overlaps) count(changes []store.Change) error {
	for _, c := range changes {
		if was, known := c.Old.(*shoal.Task); known && wantedUp(was) {
			o[slotOf(was)]--
		}
		if is, left := c.New.(*shoal.Task); left && wantedUp(is) {
			o[slotOf(is)]++
		}
	}
	for _, c := range changes {
		if t, ok := c.New.(*shoal.Task); ok && o[slotOf(t)] > 2 {
			return fmt.Errorf("%d tasks are wanted in slot %s", o[slotOf(t)], slotOf(t))
		}
	}
	return nil
}

func slotOf(t *shoal.Task) string { return fmt.Sprint(t.ServiceID, ".", t.Slot) }

func wantedUp(t *shoal.Task) bool {
	return t.DesiredState == shoal.TaskRunning && !t.Status.State.Ended()
}

// tick has the agents act, waits for the next tick of the clock and for the controllers.
func (f *fleet) tick(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := f.act(ctx); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Until(time.Now().Truncate(tick).Add(tick)))
	synctest.Wait()
}

// until waits at most ten virtual minutes.
func (f *fleet) until(ctx context.Context, t *testing.T, what string, reached func(store.View) string) {
	t.Helper()
	for i := range 6000 {
		f.tick(ctx, t)
		if i%10 > 0 {
			continue
		}
		if why := reached(f.store.View()); why == "" {
			return
		} else if i == 5990 {
			t.Fatalf("never: %s: %s", what, why)
		}
	}
}

// injectFault makes a random fault, or a change by a user.
func (f *fleet) injectFault(ctx context.Context) error {
	switch f.rng.IntN(12) {
	case 0:
		if node := f.anyNode(); !f.gone(node) {
			f.dead[node] = time.Now()
		}
	case 1:
		if dead := slices.Sorted(maps.Keys(f.dead)); len(dead) > 0 {
			return f.revive(ctx, dead[0])
		}
	case 2:
		return f.drain(ctx, f.anyNode(), []shoal.Availability{shoal.AvailabilityDrain, shoal.AvailabilityActive, shoal.AvailabilityPause}[f.rng.IntN(3)])
	case 3:
		f.bad["bad"] = true
		return f.deploy(ctx, f.anyService(), []string{"good", "better", "bad"}[f.rng.IntN(3)])
	default:
		return f.crash(ctx)
	}
	return nil
}

// endFaults ends all faults and gives every service a good image.
func (f *fleet) endFaults(ctx context.Context) error {
	for i := range fleetNodes {
		id := fmt.Sprint("n", i+1)
		if f.gone(shoal.NodeID(id)) {
			if err := f.revive(ctx, shoal.NodeID(id)); err != nil {
				return err
			}
		}
		if f.store.View().Node(shoal.NodeID(id)).Spec.Availability != shoal.AvailabilityActive {
			if err := f.drain(ctx, shoal.NodeID(id), shoal.AvailabilityActive); err != nil {
				return err
			}
		}
	}
	for _, s := range f.store.View().Services() {
		if u := s.UpdateStatus; s.Spec.Task.Container.Image == "bad" || (u != nil && u.State != shoal.UpdateCompleted) {
			if err := f.deploy(ctx, s.ID, "best"); err != nil {
				return err
			}
		}
	}
	return nil
}

// settled says which service does not have all its replicas of the image that it asks for; empty if there is none.
func settled(v store.View) string {
	for _, s := range v.Services() {
		good := map[uint64]bool{}
		for _, t := range v.TasksOfService(s.ID) {
			if up(t) && t.Spec.Container.Image == s.Spec.Task.Container.Image {
				good[t.Slot] = true
			} else if !t.Status.State.Ended() {
				return fmt.Sprintf("task %s of %s on %s is %s, wants %s %s", t.ID, s.ID, t.NodeID, t.Status.State, t.DesiredState, t.Status.Err)
			}
		}
		if len(good) != fleetReplicas {
			return fmt.Sprintf("%s has %d tasks", s.ID, len(good))
		}
	}
	return ""
}
