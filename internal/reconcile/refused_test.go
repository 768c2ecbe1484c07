package reconcile_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// fullBackend refuses writes while it is full, as a store member on a full disk does.
type fullBackend struct {
	*store.Memory
	full    atomic.Bool
	refused atomic.Int64
}

func (f *fullBackend) Txn(ctx context.Context, fence uint64, ops []store.Op) (uint64, error) {
	if f.full.Load() {
		f.refused.Add(1)
		return 0, errdefs.ErrUnavailable.WithMessage("the cluster's state cannot be changed by this manager")
	}
	return f.Memory.Txn(ctx, fence, ops)
}

// While a manager's disk was full, its controllers tried to write a hundred times a second, because a change that concerned its own controller began the pauses
// anew, and each attempt was a line in the log.
func TestRefusedChangesAreTriedEverMoreSlowlyAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &fullBackend{Memory: store.NewMemory()}
		s := storetest.Open(t, backend)
		var log bytes.Buffer
		loop := reconcile.New(reconcile.Config{Store: s, Leadership: backend, Controllers: []reconcile.Controller{labeller{}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		service := &shoal.Service{ID: "s", Spec: shoal.ServiceSpec{Name: "web"}}
		if _, err := s.Commit(t.Context(), store.Changes{Puts: []store.Object{service}}); err != nil {
			t.Fatal(err)
		}
		backend.full.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		<-time.After(3 * time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "changes of the controllers"); n != 1 {
			t.Errorf("within three minutes it is logged %d times:\n%s", n, log.String())
		}
		if n := backend.refused.Load(); n > 20 {
			t.Errorf("within three minutes it is tried %d times", n)
		}
		backend.full.Store(false)
		<-time.After(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "changes of the controllers"); n != 2 {
			t.Errorf("that they are written again is not logged:\n%s", log.String())
		}
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
}

// faulty panics for one service.
type faulty struct{ labeller }

func (faulty) Reconcile(v store.View, key reconcile.Key) (store.Changes, error) {
	if key == "bad" {
		panic("no slot")
	}
	return labeller{}.Reconcile(v, key)
}

// An object that brought out a fault of a controller ended the daemon of every leader in turn.
func TestAFaultOfAControllerHoldsUpItsObjectOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := store.NewMemory()
		s := storetest.Open(t, backend)
		for _, id := range []shoal.ServiceID{"bad", "good"} {
			if _, err := s.Commit(t.Context(), store.Changes{Puts: []store.Object{&shoal.Service{ID: id, Spec: shoal.ServiceSpec{Name: string(id)}}}}); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		loop := reconcile.New(reconcile.Config{Store: s, Leadership: backend, Controllers: []reconcile.Controller{faulty{}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		<-time.After(time.Minute)
		synctest.Wait()
		if got := s.View().Service("good").Spec.Labels["seen"]; got != "yes" {
			t.Error("the other object waits")
		}
		if n := strings.Count(log.String(), "was contained"); n == 0 || n > 20 { // it is tried ever more slowly
			t.Errorf("%d faults:\n%s", n, log.String())
		}
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
}
