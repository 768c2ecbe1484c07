package allocator

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// freeTunnelAddr is the address after the last that a node has, so that one which has become free is not soon another's; if that was
// the range's last, the first free one. It is not valid if none is.
func freeTunnelAddr(v store.View) netip.Addr {
	pool := poolOf(shoal.Subnet{Subnet: shoal.TunnelRange()})
	used, next := map[netip.Addr]bool{}, pool.subnet.Addr()
	for _, n := range v.Nodes() {
		if addr := n.TunnelAddr; addr.IsValid() {
			used[addr] = true
			if next.Less(addr) {
				next = addr
			}
		}
	}
	if next = next.Next(); pool.subnet.Contains(next) && pool.host(next) {
		return next
	}
	for addr := pool.subnet.Addr().Next(); pool.subnet.Contains(addr) && pool.host(addr); addr = addr.Next() {
		if !used[addr] {
			return addr
		}
	}
	return netip.Addr{}
}
