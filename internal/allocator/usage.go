package allocator

import (
	"maps"
	"math"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Usage is how many addresses of a subnet are in use or reserved, and how many can still be given out; either is cut off at 2^64-1.
type Usage struct {
	Subnet      netip.Prefix
	InUse, Left uint64
}

// UsageOf tells of every subnet of a network.
func UsageOf(v store.View, n *shoal.Network) []Usage {
	a := newAddresses(v, n)
	var all []Usage
	for _, p := range a.pools {
		u := Usage{Subnet: p.subnet}
		held := maps.Clone(a.used)
		held[p.subnet.Addr()] = true
		if last := lastAddr(p.subnet); last.Is4() {
			held[last] = true
		}
		var within uint64
		for addr := range held {
			if p.subnet.Contains(addr) {
				u.InUse++
			}
			if p.from.Contains(addr) {
				within++
			}
		}
		u.Left = size(p.from) - within
		all = append(all, u)
	}
	return all
}

// Full tells that no task can get an address on the network.
func Full(usage []Usage) bool {
	for _, u := range usage {
		if u.Left > 0 && u.Subnet.Addr().Is4() {
			return false
		}
	}
	return len(usage) > 0
}

func size(p netip.Prefix) uint64 {
	if host := p.Addr().BitLen() - p.Bits(); host < 64 {
		return 1 << host
	}
	return math.MaxUint64
}
