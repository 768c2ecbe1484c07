package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	tick        = 100 * time.Millisecond  // how often agents report and faults strike
	nodeTimeout = 2500 * time.Millisecond // after which a dead node is set to Down
)

// fleet simulates the agents of all nodes of a store, and their faults.
type fleet struct {
	store *store.Store
	rng   *rand.Rand
	sub   *store.Subscription
	due   map[time.Time][]shoal.TaskID // tasks whose agents report at that time
	dead  map[shoal.NodeID]time.Time   // nodes that are dead, and since when
	bad   map[string]bool              // images that fail
	check func([]store.Change) error

	nodes, services int
}

func newFleet(s *store.Store, seed uint64, check func([]store.Change) error) *fleet {
	view, sub := s.Subscribe()
	return &fleet{
		nodes: len(view.Nodes()), services: len(view.Services()),
		store: s, rng: rand.New(rand.NewPCG(seed, seed)), sub: sub, check: check,
		due: map[time.Time][]shoal.TaskID{}, dead: map[shoal.NodeID]time.Time{}, bad: map[string]bool{},
	}
}

// act does what is due now: it checks the changes since the last tick, reports for agents, and sets dead nodes to Down.
func (f *fleet) act(ctx context.Context) error {
	now := time.Now().Truncate(tick)
	for _, batch := range f.sub.Take() {
		if err := f.check(batch.Changes); err != nil {
			return fmt.Errorf("revision %d: %w", batch.View.Revision(), err)
		}
		for _, c := range batch.Changes {
			if t, ok := c.New.(*shoal.Task); ok && step(t) != t.Status.State {
				f.schedule(now, t.ID)
			}
		}
	}
	reporting := f.due[now]
	delete(f.due, now)
	if err := f.write(ctx, func(v store.View) store.Changes { return f.reports(v, reporting) }); err != nil {
		return err
	}
	return f.write(ctx, func(v store.View) store.Changes {
		var c store.Changes
		for id, since := range f.dead {
			if n := v.Node(id); n.Status.State == shoal.NodeReady && now.Sub(since) >= nodeTimeout {
				c.Put(withState(n, shoal.NodeDown))
			}
		}
		return c
	})
}

// schedule has a task's agent report within two seconds.
func (f *fleet) schedule(now time.Time, id shoal.TaskID) {
	at := now.Add(tick * time.Duration(1+f.rng.IntN(20)))
	f.due[at] = append(f.due[at], id)
}

func (f *fleet) reports(v store.View, tasks []shoal.TaskID) store.Changes {
	var c store.Changes
	seen := map[shoal.TaskID]bool{}
	for _, id := range tasks {
		t := v.Task(id)
		if t == nil || seen[id] || f.gone(t.NodeID) {
			continue
		}
		seen[id] = true
		next := *t
		for step(&next) != next.Status.State {
			next.Observe(shoal.TaskStatus{State: step(&next), Timestamp: v.Now()})
		}
		if next.Status.State == shoal.TaskRunning && f.bad[t.Spec.Container.Image] {
			next.Observe(shoal.TaskStatus{State: shoal.TaskFailed, Timestamp: v.Now()})
		}
		if next.Status.State != t.Status.State {
			c.Put(&next)
		}
	}
	return c
}

func (f *fleet) gone(node shoal.NodeID) bool {
	_, dead := f.dead[node]
	return dead
}

// write commits the changes that change makes from the newest view; after a conflict it tries again.
func (f *fleet) write(ctx context.Context, change func(store.View) store.Changes) error {
	return f.store.Update(ctx, func(v store.View) (store.Changes, error) { return change(v), nil })
}

// revive makes a dead node Ready again; the containers that it had are gone.
func (f *fleet) revive(ctx context.Context, id shoal.NodeID) error {
	delete(f.dead, id)
	return f.write(ctx, func(v store.View) store.Changes {
		var c store.Changes
		c.Put(withState(v.Node(id), shoal.NodeReady))
		for _, t := range v.TasksOnNode(id) {
			if t.Status.State >= shoal.TaskAssigned && !t.Status.State.Ended() {
				c.Put(observe(t, shoal.TaskFailed, v.Now()))
			}
		}
		return c
	})
}

// crash ends a random running task.
func (f *fleet) crash(ctx context.Context) error {
	return f.write(ctx, func(v store.View) store.Changes {
		var c store.Changes
		tasks := v.TasksOnNode(f.anyNode())
		if len(tasks) > 0 {
			if t := tasks[f.rng.IntN(len(tasks))]; up(t) && !f.gone(t.NodeID) {
				c.Put(observe(t, shoal.TaskFailed, v.Now()))
			}
		}
		return c
	})
}

func (f *fleet) anyNode() shoal.NodeID { return shoal.NodeID(fmt.Sprint("n", 1+f.rng.IntN(f.nodes))) }

func (f *fleet) anyService() shoal.ServiceID {
	return shoal.ServiceID(fmt.Sprint("s", f.rng.IntN(f.services)))
}

// drain changes a node's availability.
func (f *fleet) drain(ctx context.Context, id shoal.NodeID, to shoal.Availability) error {
	return f.write(ctx, func(v store.View) store.Changes {
		next := *v.Node(id)
		next.Spec.Availability = to
		return store.Changes{Puts: []store.Object{&next}}
	})
}

// deploy gives a service another image, as the API does.
func (f *fleet) deploy(ctx context.Context, id shoal.ServiceID, image string) error {
	return f.write(ctx, func(v store.View) store.Changes {
		next := *v.Service(id)
		previous := next.Spec
		next.PreviousSpec, next.UpdateStatus = &previous, nil
		next.Spec.Task.Container = &shoal.ContainerSpec{Image: image}
		next.SpecVersion++
		return store.Changes{Puts: []store.Object{&next}}
	})
}

func withState(n *shoal.Node, state shoal.NodeState) *shoal.Node {
	next := *n
	next.Status.State = state
	return &next
}
