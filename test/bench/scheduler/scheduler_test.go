// Package scheduler measures the scheduler alone, in memory: tasks placed per second, and what a hundred times the nodes cost.
// It reads and writes nothing else.
package scheduler

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const tasks = 1000

func cluster(b *testing.B, nodes int) store.View {
	b.Helper()
	s, err := store.Open(context.Background(), store.Config{Backend: store.NewMemory()})
	if err != nil {
		b.Fatal(err)
	}
	var c store.Changes
	for i := range nodes {
		c.Put(&shoal.Node{
			ID: shoal.NodeID(fmt.Sprintf("node%06d", i)), Status: shoal.NodeStatus{State: shoal.NodeReady},
			Spec: shoal.NodeSpec{Labels: map[string]string{"zone": fmt.Sprint("z", i%7), "disk": []string{"ssd", "hdd"}[i%2]}},
			Description: shoal.NodeDescription{
				Hostname: fmt.Sprint("h", i), Platform: shoal.Platform{OS: "linux", Architecture: "x86_64"},
				Resources: shoal.Resources{NanoCPUs: 64e9, MemoryBytes: 64 << 30},
			},
		})
	}
	return s.View().With(c)
}

// pending is tasks without a node: of one service each, or all of one.
func pending(round int, services bool, spec shoal.TaskSpec) store.Changes {
	var c store.Changes
	for i := range tasks {
		service, slot := fmt.Sprint("s", round), uint64(i+1)
		if services {
			service, slot = fmt.Sprint("s", round, ".", i), 1
		}
		c.Put(&shoal.Task{
			ID: shoal.TaskID(fmt.Sprintf("r%dt%06d", round, i)), ServiceID: shoal.ServiceID(service), Slot: slot, Spec: spec,
			DesiredState: shoal.TaskRunning, Status: shoal.TaskStatus{State: shoal.TaskPending},
		})
	}
	return c
}

// place returns the mean time in which the tasks are placed, each round on top of the ones before.
func place(b *testing.B, base store.View, services bool, spec shoal.TaskSpec) time.Duration {
	b.Helper()
	s := scheduler.New(scheduler.Config{})
	const rounds = 12
	v, total := base, time.Duration(0)
	for round := range rounds {
		v = v.With(pending(round, services, spec))
		start := time.Now()
		c, err := s.Reconcile(v, "")
		took := time.Since(start)
		if err != nil || len(c.Puts) != tasks {
			b.Fatalf("%d of %d tasks, %v", len(c.Puts), tasks, err)
		}
		v = v.With(c)
		if round >= 2 { // the first makes the index, the second its ranking's caches
			total += took
		}
	}
	return total / (rounds - 2)
}

func BenchmarkScheduler(b *testing.B) {
	small, large := cluster(b, 1000), cluster(b, 100000)
	zones := shoal.TaskSpec{Placement: &shoal.Placement{
		Constraints: []string{"node.labels.disk==ssd"}, Preferences: []shoal.PlacementPreference{{SpreadOver: "node.labels.zone"}},
	}}
	reserving := shoal.TaskSpec{Resources: &shoal.ResourceRequirements{Reservations: &shoal.Resources{NanoCPUs: 1e8, MemoryBytes: 64 << 20}}}
	for _, c := range []struct {
		name     string
		services bool
		spec     shoal.TaskSpec
	}{
		{"one service", false, shoal.TaskSpec{}}, {"a service each", true, shoal.TaskSpec{}},
		{"constraint and preference", false, zones}, {"reservations, a service each", true, reserving},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				few, many := place(b, small, c.services, c.spec), place(b, large, c.services, c.spec)
				b.ReportMetric(tasks/few.Seconds(), "tasks/s@1k-nodes")
				b.ReportMetric(tasks/many.Seconds(), "tasks/s@100k-nodes")
				b.ReportMetric(float64(many)/float64(few), "ratio")
			}
		})
	}
}
