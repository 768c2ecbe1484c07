package shoal

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// TestDeltas walks through random tables: each difference leads on, one by one or joined.
func TestDeltas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(version uint64) Table {
			now := Table{Version: version, NodeID: "n", Networks: map[NetworkID]Network{}, Peers: map[NodeID]Peer{}, Services: map[ServiceID]ServiceEntry{}, Endpoints: map[EndpointKey]Endpoint{}}
			for i := range 4 {
				key := fmt.Sprint(i)
				if v := rapid.IntRange(0, 3).Draw(t, "endpoint"); v > 0 {
					now.Endpoints[EndpointKey(key)] = Endpoint{Slot: uint64(v)}
				}
				if v := rapid.IntRange(0, 2).Draw(t, "service"); v > 0 {
					now.Services[ServiceID(key)] = ServiceEntry{Ports: make([]MeshPort, v)}
				}
			}
			return now
		}
		first := draw(1)
		last, stepped := first, first.Clone()
		joined := &TableDelta{Version: 1, NodeID: "n"}
		for version := range rapid.Uint64Range(1, 5).Draw(t, "steps") {
			next := draw(version + 2)
			delta := Difference(last, next)
			if delta.Empty() != reflect.DeepEqual(delta, TableDelta{Version: delta.Version, NodeID: "n"}) {
				t.Fatalf("%+v is empty: %v", delta, delta.Empty())
			}
			if rapid.Bool().Draw(t, "full") {
				delta = Difference(Table{}, next)
				delta.Full = true
			}
			delta.ApplyTo(&stepped)
			if !reflect.DeepEqual(stepped, next) {
				t.Fatalf("%+v, want %+v", stepped, next)
			}
			joined, last = joined.Then(&delta), next
		}
		got := first.Clone()
		joined.ApplyTo(&got)
		if !reflect.DeepEqual(got, last) {
			t.Fatalf("in one: %+v, want %+v", got, last)
		}
	})
}
