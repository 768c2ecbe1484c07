package rpc_test

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func drawTable(t *rapid.T, label string) shoal.Table {
	endpoints := rapid.MapOf(rapid.StringMatching(`[a-d]`), rapid.Custom(func(t *rapid.T) shoal.Endpoint {
		return shoal.Endpoint{TaskID: rapid.StringMatching(`[a-d]`).Draw(t, "task"), Slot: rapid.Uint64Range(0, 3).Draw(t, "slot")}
	})).Draw(t, label+" endpoints")
	services := rapid.MapOf(rapid.StringMatching(`[a-d]`), rapid.Custom(func(t *rapid.T) shoal.ServiceEntry {
		return shoal.ServiceEntry{Name: rapid.StringMatching(`[a-d]`).Draw(t, "name")}
	})).Draw(t, label+" services")
	return shoal.Table{
		Version:   rapid.Uint64().Draw(t, label+" version"),
		NodeID:    "n",
		Networks:  map[string]shoal.Network{},
		Peers:     map[string]shoal.Peer{},
		Services:  services,
		Endpoints: endpoints,
	}
}

func TestApplyingADifferenceGivesTheNewTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, now := drawTable(t, "old"), drawTable(t, "now")
		delta, same := rpc.Difference(old, now)
		if got := delta.Apply(old); !reflect.DeepEqual(got, now) {
			t.Fatalf("got %+v, want %+v", got, now)
		}
		old.Version = now.Version
		if same != reflect.DeepEqual(old, now) {
			t.Fatalf("same is %v for %+v and %+v", same, old, now)
		}
	})
}
