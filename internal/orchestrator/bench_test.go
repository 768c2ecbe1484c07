package orchestrator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// BenchmarkLargeService measures one look at a service that runs as it should.
func BenchmarkLargeService(b *testing.B) {
	for _, replicas := range []uint64{1000, 20000} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			s, err := store.Open(b.Context(), store.Config{Backend: store.NewMemory()})
			if err != nil {
				b.Fatal(err)
			}
			changes := store.Changes{Puts: []store.Object{&shoal.Node{ID: "n", Status: shoal.NodeStatus{State: shoal.NodeReady}}, &shoal.Service{
				ID: "s", Spec: shoal.ServiceSpec{Name: "s", Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &replicas}}},
			}}}
			for i := range replicas {
				changes.Put(&shoal.Task{
					ID: shoal.NewID[shoal.TaskID](), ServiceID: "s", Slot: i + 1, NodeID: "n", DesiredState: shoal.TaskRunning,
					Meta:   shoal.Meta{CreatedAt: time.Unix(1e9+int64(i/2000), 0)},
					Status: shoal.TaskStatus{State: shoal.TaskRunning}, RunningSince: time.Unix(1e9, 0),
				})
			}
			o, v := orchestrator.New(orchestrator.Config{}), s.View().With(changes)
			for b.Loop() {
				changes, err := o.Reconcile(v, "s")
				if err != nil || !changes.Empty() {
					b.Fatal(changes, err)
				}
			}
		})
	}
}
