// Package storetest is the conformance suite of the store's backends: the real one and the one in memory both pass it.
// It writes to the backend it is given.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Run tests a backend. Each call of backend returns an empty one.
func Run(t *testing.T, backend func(t *testing.T) store.Backend) {
	for name, test := range map[string]func(*testing.T, store.Backend){
		"ReadYourWrites": readYourWrites, "Conflict": conflict, "NameTaken": nameTaken, "AllOrNothing": allOrNothing,
		"Watch": watch, "Sealed": sealed, "Fence": fence, "Large": large, "Operations": operations, "Bytes": bytes, "Reload": reload,
	} {
		t.Run(name, func(t *testing.T) { test(t, backend(t)) })
	}
}

// Open opens a store on a backend and runs it until the test ends.
func Open(t *testing.T, backend store.Backend) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Backend: backend, Key: make([]byte, store.KeySize)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
	return s
}

func service(name string) *shoal.Service {
	return &shoal.Service{ID: shoal.NewID[shoal.ServiceID](), Spec: shoal.ServiceSpec{Name: name}}
}

func commit(t *testing.T, s *store.Store, c store.Changes) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	rev, err := s.Commit(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func readYourWrites(t *testing.T, b store.Backend) {
	s := Open(t, b)
	web := service("web")
	rev := commit(t, s, store.Changes{Puts: []store.Object{web}})
	got := s.View().ServiceByName("web")
	if got == nil || got.ID != web.ID || got.Version != rev || got.CreatedAt.IsZero() {
		t.Fatalf("after create: %+v", got)
	}
	next := *got
	next.Spec.Labels = map[string]string{"a": "b"}
	rev = commit(t, s, store.Changes{Puts: []store.Object{&next}})
	if got := s.View().Service(web.ID); got.Version != rev || got.Spec.Labels["a"] != "b" {
		t.Fatalf("after update: %+v", got)
	}
	commit(t, s, store.Changes{Deletes: []store.Object{s.View().Service(web.ID)}})
	if s.View().Service(web.ID) != nil || s.View().ServiceByName("web") != nil {
		t.Fatal("still there after delete")
	}
	commit(t, s, store.Changes{Puts: []store.Object{service("web")}})
}

func conflict(t *testing.T, b store.Backend) {
	s := Open(t, b)
	commit(t, s, store.Changes{Puts: []store.Object{service("web")}})
	old := s.View().ServiceByName("web")
	commit(t, s, store.Changes{Puts: []store.Object{old}})
	for _, c := range []store.Changes{{Puts: []store.Object{old}}, {Deletes: []store.Object{old}}} {
		if _, err := s.Commit(t.Context(), c); !store.IsConflict(err) {
			t.Fatalf("stale write: %v", err)
		}
	}
}

func nameTaken(t *testing.T, b store.Backend) {
	s := Open(t, b)
	commit(t, s, store.Changes{Puts: []store.Object{service("web")}})
	_, err := s.Commit(t.Context(), store.Changes{Puts: []store.Object{service("web")}})
	if !store.IsNameTaken(err) {
		t.Fatalf("second service of one name: %v", err)
	}
}

func allOrNothing(t *testing.T, b store.Backend) {
	s := Open(t, b)
	stale := service("stale")
	stale.Version = 12345
	_, err := s.Commit(t.Context(), store.Changes{Puts: []store.Object{service("web"), stale}})
	if !store.IsConflict(err) || s.View().ServiceByName("web") != nil {
		t.Fatalf("half a transaction: %v", err)
	}
}

func watch(t *testing.T, b store.Backend) {
	s := Open(t, b)
	view, sub := s.Subscribe()
	defer sub.Close()
	if len(view.Services()) != 0 {
		t.Fatal("services before the first")
	}
	var last uint64
	for i := range 20 {
		last = commit(t, s, store.Changes{Puts: []store.Object{service(fmt.Sprint("s", i))}})
	}
	seen := 0
	for seen < 20 {
		batches, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, batch := range batches {
			for _, c := range batch.Changes {
				if c.Old != nil || c.New == nil || c.New.(*shoal.Service).Spec.Name != fmt.Sprint("s", seen) {
					t.Fatalf("change %d: %+v", seen, c)
				}
				if len(batch.View.Services()) != seen+1 {
					t.Fatalf("view of batch %d has %d services", seen, len(batch.View.Services()))
				}
				seen++
			}
		}
	}
	if err := s.Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
}

func sealed(t *testing.T, b store.Backend) {
	s := Open(t, b)
	secret := &shoal.Secret{ID: shoal.NewID[shoal.SecretID](), Name: "s", Data: []byte("plaintext-here")}
	cluster := &shoal.Cluster{ID: shoal.NewID[shoal.ClusterID](), TunnelSecret: []byte("plaintext-here")}
	commit(t, s, store.Changes{Puts: []store.Object{secret, cluster}})
	if got := s.View().Cluster(); string(got.TunnelSecret) != "plaintext-here" {
		t.Fatalf("secret of encrypted traffic came back as %q", got.TunnelSecret)
	}
	if got := s.View().SecretByName("s"); string(got.Data) != "plaintext-here" {
		t.Fatalf("secret came back as %q", got.Data)
	}
	records, _, err := b.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records { // base64 of "plaintext"
		if string(secret.Data) != "plaintext-here" || contains(r.Value, "plaintext") || contains(r.Value, "cGxhaW50ZXh0") {
			t.Fatalf("secret in the clear: %s", r.Value)
		}
	}
}

func contains(value []byte, text string) bool {
	for i := 0; i+len(text) <= len(value); i++ {
		if string(value[i:i+len(text)]) == text {
			return true
		}
	}
	return false
}

func fence(t *testing.T, b store.Backend) {
	s := Open(t, b)
	epoch, err := b.Txn(t.Context(), 0, []store.Op{{Key: store.EpochKey, Value: []byte("me"), If: store.AnyRevision}})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, store.Changes{Puts: []store.Object{service("a")}, Fence: epoch})
	if _, err := b.Txn(t.Context(), 0, []store.Op{{Key: store.EpochKey, Value: []byte("you"), If: store.AnyRevision}}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Commit(t.Context(), store.Changes{Puts: []store.Object{service("b")}, Fence: epoch})
	if !errors.Is(err, store.ErrFenced) {
		t.Fatalf("write by a deposed leader: %v", err)
	}
}

func large(t *testing.T, b store.Backend) {
	s := Open(t, b)
	var c store.Changes
	for range 3000 {
		c.Put(&shoal.Task{ID: shoal.NewID[shoal.TaskID](), ServiceID: "s", Slot: 1})
	}
	commit(t, s, c)
	if n := len(s.View().TasksOfSlot("s", 1)); n != 3000 {
		t.Fatalf("%d tasks", n)
	}
}

// operations: a transaction of MaxTxnOps is written, also a fenced one, and one of more is refused in whole.
func operations(t *testing.T, b store.Backend) {
	epoch, err := b.Txn(t.Context(), 0, []store.Op{{Key: store.EpochKey, Value: []byte("me"), If: store.AnyRevision}})
	if err != nil {
		t.Fatal(err)
	}
	ops := make([]store.Op, store.MaxTxnOps+1)
	for i := range ops {
		ops[i] = store.Op{Key: fmt.Sprint(store.Prefix, "x/", i), Value: []byte("x")}
	}
	refused(t, b, epoch, ops)
	if _, err := b.Txn(t.Context(), epoch, ops[1:]); err != nil {
		t.Fatalf("%d operations: %v", len(ops)-1, err)
	}
}

// bytes: the same for MaxTxnBytes.
func bytes(t *testing.T, b store.Backend) {
	const parts = 4
	var ops []store.Op
	for i := range parts {
		key := fmt.Sprint(store.Prefix, "x/", i)
		ops = append(ops, store.Op{Key: key, Value: make([]byte, store.MaxTxnBytes/parts-len(key))})
	}
	ops[0].Value = append(ops[0].Value, 0)
	refused(t, b, 0, ops)
	ops[0].Value = ops[0].Value[1:]
	if _, err := b.Txn(t.Context(), 0, ops); err != nil {
		t.Fatalf("%d bytes: %v", store.MaxTxnBytes, err)
	}
	s := Open(t, b)
	large := service("large")
	large.Spec.Labels = map[string]string{"large": strings.Repeat("x", store.MaxTxnBytes)}
	_, err := s.Commit(t.Context(), store.Changes{Puts: []store.Object{service("small"), large}})
	if !errors.Is(err, store.ErrTooLarge) || !errdefs.IsInvalidArgument(err) || len(s.View().Services()) != 0 {
		t.Fatalf("a service larger than a transaction: %v", err)
	}
}

func refused(t *testing.T, b store.Backend, fence uint64, ops []store.Op) {
	t.Helper()
	if _, err := b.Txn(t.Context(), fence, ops); !errors.Is(err, store.ErrTooLarge) {
		t.Fatalf("a transaction beyond the bounds: %v", err)
	}
	if all, _, err := b.Load(t.Context()); err != nil || len(all) > 1 {
		t.Fatalf("of a transaction that was refused %d keys are there, %v", len(all), err)
	}
}

func reload(t *testing.T, b store.Backend) {
	first := Open(t, b)
	commit(t, first, store.Changes{Puts: []store.Object{service("web")}})
	second := Open(t, b)
	want, got := first.View().ServiceByName("web"), second.View().ServiceByName("web")
	if got == nil || got.Version != want.Version {
		t.Fatalf("second store sees %+v", got)
	}
}
