package allocator

import (
	"maps"
	"math"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// UsageOf is how the addresses of each subnet of a network are used, in the order of its subnets.
func UsageOf(v store.View, n *shoal.Network) []shoal.SubnetUsage {
	a := newAddresses(v, n)
	var all []shoal.SubnetUsage
	for _, p := range a.pools {
		u := shoal.SubnetUsage{Subnet: p.subnet}
		unavailable := maps.Clone(a.used)
		unavailable[p.subnet.Addr()] = true
		if last := lastAddr(p.subnet); last.Is4() {
			unavailable[last] = true
		}
		var within uint64
		for addr := range unavailable {
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

// Exhausted is how the addresses of a network are used if no task can get one any more, and nil otherwise.
func Exhausted(v store.View, n *shoal.Network) []shoal.SubnetUsage {
	if usage := UsageOf(v, n); Full(usage) {
		return usage
	}
	return nil
}

// Full tells that no task can get an address on the network.
func Full(usage []shoal.SubnetUsage) bool {
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
