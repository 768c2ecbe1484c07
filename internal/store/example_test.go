package store_test

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// A view never changes. What was read from it is written back with the version that was read, so that nobody's change is lost.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s, err := store.Open(ctx, store.Config{Backend: store.NewMemory()})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = s.Run(ctx) }() // until stop
	id := shoal.NewID[shoal.ServiceID]()
	if _, err := s.Commit(ctx, store.Changes{Puts: []store.Object{&shoal.Service{ID: id, Spec: shoal.ServiceSpec{Name: "web"}}}}); err != nil {
		fmt.Println(err)
		return
	}
	before := s.View()
	mine, theirs := *before.Service(id), *before.Service(id)
	theirs.SpecVersion = 1
	if _, err := s.Commit(ctx, store.Changes{Puts: []store.Object{&theirs}}); err != nil {
		fmt.Println(err)
		return
	}
	_, err = s.Commit(ctx, store.Changes{Puts: []store.Object{&mine}})
	fmt.Println("conflict:", store.IsConflict(err))
	fmt.Println("versions:", before.Service(id).SpecVersion, s.View().ServiceByName("web").SpecVersion)
	// Output:
	// conflict: true
	// versions: 0 1
}
