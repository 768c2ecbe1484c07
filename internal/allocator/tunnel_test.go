package allocator

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// Nodes that come and go never share an address for encrypted traffic, and keep theirs.
func TestTunnelAddressesAreUnique(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(t *rapid.T) {
		v, had := empty, map[shoal.NodeID]netip.Addr{}
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			if nodes := v.Nodes(); len(nodes) > 0 && rapid.Bool().Draw(t, "goes") {
				gone := rapid.SampledFrom(nodes).Draw(t, "who")
				v = v.With(store.Changes{Deletes: []store.Object{gone}})
			} else {
				n := manager(fmt.Sprint("n", i), false)
				if rapid.IntRange(0, 3).Draw(t, "last") == 0 {
					n.TunnelAddr = netip.MustParseAddr("198.19.255.254") // the search begins anew
				}
				if !inUse(v, n.TunnelAddr) {
					v = v.With(store.Changes{Puts: []store.Object{n}})
				}
			}
			v = settle(t, v)
			owners := map[netip.Addr]shoal.NodeID{}
			for _, n := range v.Nodes() {
				addr := n.TunnelAddr
				if !shoal.TunnelRange().Contains(addr) {
					t.Fatalf("node %s has the address %q", n.ID, n.TunnelAddr)
				}
				if other := owners[n.TunnelAddr]; other != "" {
					t.Fatalf("nodes %s and %s have the address %s", n.ID, other, addr)
				}
				if was := had[n.ID]; was.IsValid() && was != n.TunnelAddr {
					t.Fatalf("node %s had %s and has %s", n.ID, was, addr)
				}
				owners[n.TunnelAddr], had[n.ID] = n.ID, n.TunnelAddr
			}
		}
	})
}

func inUse(v store.View, addr netip.Addr) bool {
	for _, n := range v.Nodes() {
		if addr.IsValid() && n.TunnelAddr == addr {
			return true
		}
	}
	return false
}
