package reconcile_test

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// labeller gives every service a label. It is a value: what it knows comes with the view, what it wants goes out as changes.
type labeller struct{}

func (labeller) Name() string { return "labeller" }

func (labeller) All(v store.View) []reconcile.Key {
	var keys []reconcile.Key
	for _, s := range v.Services() {
		keys = append(keys, reconcile.Key(s.ID))
	}
	return keys
}

func (labeller) Concerned(_ store.View, c store.Change) []reconcile.Key {
	if c.Kind != store.KindService {
		return nil
	}
	return []reconcile.Key{reconcile.Key(c.ID)}
}

func (labeller) Reconcile(v store.View, key reconcile.Key) (store.Changes, error) {
	var changes store.Changes
	if s := v.Service(shoal.ServiceID(key)); s != nil && s.Spec.Labels["seen"] == "" {
		next := *s
		next.Spec.Labels = map[string]string{"seen": "yes"}
		changes.Put(&next)
	}
	return changes, nil
}

// The loop calls a controller with the keys that a change concerns, and commits what it returns.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	backend := store.NewMemory() // leads
	s, err := store.Open(ctx, store.Config{Backend: backend})
	if err != nil {
		fmt.Println(err)
		return
	}
	loop := reconcile.New(reconcile.Config{Store: s, Leadership: backend, Controllers: []reconcile.Controller{labeller{}}})
	go func() { _ = s.Run(ctx) }()
	go func() { _ = loop.Run(ctx) }()
	view, changes := s.Subscribe()
	defer changes.Close()
	if _, err := s.Commit(ctx, store.Changes{Puts: []store.Object{&shoal.Service{ID: "s", Spec: shoal.ServiceSpec{Name: "web"}}}}); err != nil {
		fmt.Println(err)
		return
	}
	for view.Service("s") == nil || view.Service("s").Spec.Labels["seen"] == "" {
		batches, err := changes.Next(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		view = batches[len(batches)-1].View
	}
	fmt.Println(view.Service("s").Spec.Labels)
	// Output: map[seen:yes]
}
