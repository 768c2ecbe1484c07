package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// planned runs a test on the controllers over a store in memory with three nodes, whose agents do nothing. Its time is virtual: what takes the
// controllers long is no reason to fail.
func planned(t *testing.T, test func(*testing.T, *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newPlanned(t)) })
}

func newPlanned(t *testing.T) *cluster {
	t.Helper()
	backend := store.NewMemory()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := store.Open(ctx, store.Config{Backend: backend})
	if err != nil {
		t.Fatal(err)
	}
	loop := reconcile.New(reconcile.Config{Store: s, Leadership: backend, Controllers: []reconcile.Controller{
		orchestrator.New(orchestrator.Config{}), allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
	}})
	done := make(chan error, 2)
	for _, run := range []func(context.Context) error{s.Run, loop.Run} {
		go func() { done <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
		<-done //nolint:errcheck // ended by cancel
	})
	var changes store.Changes
	for i := range 3 {
		changes.Put(&shoal.Node{
			ID: shoal.NodeID(fmt.Sprint("n", i)), Spec: shoal.NodeSpec{Availability: shoal.AvailabilityActive}, Status: shoal.NodeStatus{State: shoal.NodeReady},
		})
	}
	if _, err := s.Commit(ctx, changes); err != nil {
		t.Fatal(err)
	}
	return &cluster{store: s}
}

func assignedTo(service shoal.ServiceID, n int) func(store.View) string {
	return func(v store.View) string {
		got := 0
		for _, t := range v.TasksOfService(service) {
			if t.Status.State == shoal.TaskAssigned {
				got++
			}
		}
		if got != n {
			return fmt.Sprintf("%d tasks of %s have a node, want %d", got, service, n)
		}
		return ""
	}
}

// TestALargeServiceIsMadeInParts: a small service made at the same time does not wait for all its tasks. test/sim has more tasks than a transaction holds.
func TestALargeServiceIsMadeInParts(t *testing.T) {
	const replicas = 7000
	planned(t, func(t *testing.T, c *cluster) {
		large, small := replicated("large", replicas), replicated("small", 1)
		large.ID, small.ID = "large", "small"
		// Both in one transaction, the large one first: the loop cannot be done with it before it hears of the small one.
		if _, err := c.store.Commit(t.Context(), store.Changes{Puts: []store.Object{large, small}}); err != nil {
			t.Fatal(err)
		}
		c.eventually(t, assignedTo("small", 1))
		c.eventually(t, assignedTo("large", replicas))
		v := c.store.View()
		task, before := v.TasksOfService("small")[0], 0
		for _, other := range v.TasksOfService("large") {
			if other.Version <= task.Version {
				before++
			}
		}
		passes := task.Version - v.Service("small").Version
		t.Logf("the small service got its task in pass %d, before %d of the large one's", passes, replicas-before)
		if passes > 3 || before == replicas {
			t.Errorf("the small service waited for %d passes and %d tasks of the large one", passes, before)
		}
		if _, err := c.store.Commit(t.Context(), store.Changes{Deletes: []store.Object{v.Service("large")}}); err != nil {
			t.Fatal(err)
		}
		c.eventually(t, func(v store.View) string {
			for _, task := range v.TasksOfService("large") {
				if task.Wanted() {
					return "task " + string(task.ID) + " of a service that was removed is wanted"
				}
			}
			return ""
		})
	})
}

// TestChangesOfMoreBytesThanATransactionHolds: it is not the number of tasks that counts.
func TestChangesOfMoreBytesThanATransactionHolds(t *testing.T) {
	const replicas, length = 100, store.MaxTxnBytes / 16
	planned(t, func(t *testing.T, c *cluster) {
		large := replicated("large", replicas)
		large.Spec.Task.Container.Env = []string{"LARGE=" + strings.Repeat("x", length)}
		c.create(t, large)
		c.create(t, replicated("small", 1))
		c.eventually(t, assignedTo("large", replicas))
		c.eventually(t, assignedTo("small", 1))
	})
}

// TestAnObjectLargerThanATransactionHoldsUpNoOther: of a service that just fits, the controllers' own writes do not.
func TestAnObjectLargerThanATransactionHoldsUpNoOther(t *testing.T) {
	planned(t, func(t *testing.T, c *cluster) {
		whole := replicated("whole", 3)
		for slack := 700; ; slack += 10 {
			whole.Spec.Task.Container.Env = []string{strings.Repeat("x", store.MaxTxnBytes-slack)}
			whole.ID = "whole"
			if _, err := c.store.Commit(t.Context(), store.Changes{Puts: []store.Object{whole}}); err == nil {
				break
			}
		}
		c.create(t, replicated("small", 3))
		c.eventually(t, assignedTo("small", 3))
		if err := c.editService("small", func(s *shoal.Service) { *s.Spec.Mode.Replicated.Replicas = 10 }); err != nil {
			t.Fatal(err)
		}
		c.eventually(t, assignedTo("small", 10))
		if n := len(c.store.View().TasksOfService("whole")); n != 0 {
			t.Fatalf("%d tasks fit after all: the test tests nothing", n)
		}
	})
}
