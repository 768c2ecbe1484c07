package store_test

import (
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Backend { return store.NewMemory() })
}

func TestWithLeavesTheViewAlone(t *testing.T) {
	s := storetest.Open(t, store.NewMemory())
	v := s.View()
	w := v.With(store.Changes{Puts: []store.Object{&shoal.Node{ID: "n"}}})
	if v.Node("n") != nil || w.Node("n") == nil || s.View().Node("n") != nil {
		t.Fatal("With changed more than its result")
	}
}

func TestPrefix(t *testing.T) {
	s := storetest.Open(t, store.NewMemory())
	v := s.View().With(store.Changes{Puts: []store.Object{
		&shoal.Node{ID: "abc"}, &shoal.Node{ID: "abd"}, &shoal.Node{ID: "b"},
	}})
	for prefix, want := range map[string]int{"": 3, "a": 2, "ab": 2, "abc": 1, "x": 0} {
		if got := len(v.NodesByPrefix(prefix)); got != want {
			t.Errorf("%q finds %d nodes, want %d", prefix, got, want)
		}
	}
}
