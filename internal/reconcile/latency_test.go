package reconcile_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// BenchmarkCreateToAssigned measures the time from a service's creation until all its tasks have nodes and addresses, on one
// real etcd member.
func BenchmarkCreateToAssigned(b *testing.B) {
	for _, replicas := range []uint64{1, 10, 50, 1000, 20000} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			s := realStore(b)
			changes := store.Changes{Puts: []store.Object{
				&shoal.Network{ID: "ingress", Spec: shoal.NetworkSpec{Name: "ingress", Driver: shoal.DriverOverlay, Ingress: true}},
				&shoal.Network{ID: "net", Spec: shoal.NetworkSpec{Name: "net", Driver: shoal.DriverOverlay, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.64.0.0/12")}}}},
			}}
			for i := range 3 {
				changes.Put(&shoal.Node{
					ID: shoal.NodeID(fmt.Sprint("n", i)), Spec: shoal.NodeSpec{Availability: shoal.AvailabilityActive}, Status: shoal.NodeStatus{State: shoal.NodeReady},
				})
			}
			if _, err := s.Commit(b.Context(), changes); err != nil {
				b.Fatal(err)
			}
			_, sub := s.Subscribe()
			defer sub.Close()
			for n := 0; b.Loop(); n++ {
				web := replicated(fmt.Sprint("web", n), replicas)
				web.ID = shoal.ServiceID(web.Spec.Name)
				web.Spec.Task.Networks = []shoal.NetworkAttachmentSpec{{Target: "net"}}
				if _, err := s.Commit(b.Context(), store.Changes{Puts: []store.Object{web}}); err != nil {
					b.Fatal(err)
				}
				for assigned(s.View(), web.ID) < int(replicas) {
					if _, err := sub.Next(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func assigned(v store.View, service shoal.ServiceID) int {
	count := 0
	for _, t := range v.TasksOfService(service) {
		if t.Status.State == shoal.TaskAssigned && t.NodeID != "" && len(t.Networks) == 1 {
			count++
		}
	}
	return count
}

// realStore is a store on an etcd member of its own, with the controllers over it.
func realStore(b *testing.B) *store.Store {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	peer := "http://" + listener.Addr().String()
	_ = listener.Close()
	member, err := etcd.Start(b.Context(), etcd.Config{Dir: b.TempDir(), Name: "n", PeerURL: peer, HeartbeatMs: 10, ElectionMs: 100})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(member.Close)
	s, err := store.Open(b.Context(), store.Config{Backend: member})
	if err != nil {
		b.Fatal(err)
	}
	loop := reconcile.New(reconcile.Config{Store: s, Leadership: member, Controllers: []reconcile.Controller{
		orchestrator.New(orchestrator.Config{}), allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	for _, run := range []func(context.Context) error{s.Run, loop.Run, member.Run} {
		go func() { done <- run(ctx) }()
	}
	b.Cleanup(func() {
		cancel()
		for range cap(done) {
			<-done //nolint:errcheck // ended by cancel
		}
	})
	return s
}
