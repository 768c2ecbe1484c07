package allocator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// errFull says that no address of a network is free.
var errFull = errors.New("could not find an available IP")

// pool is the part of one subnet that addresses are taken from, and where the search for a free one goes on.
type pool struct {
	subnet netip.Prefix
	from   netip.Prefix
	last   netip.Addr // given out last; invalid if none was
	when   time.Time  // at which last was given out
}

func poolsOf(n *shoal.Network) []*pool {
	var all []*pool
	for _, s := range n.IPAM {
		if p := poolOf(s); p != nil {
			all = append(all, p)
		}
	}
	return all
}

func poolOf(s shoal.Subnet) *pool {
	if !s.Subnet.IsValid() {
		return nil
	}
	from := s.Range
	if !from.IsValid() {
		from = s.Subnet
	}
	return &pool{subnet: s.Subnet.Masked(), from: from.Masked()}
}

// host tells whether an address of the subnet can be a host's: its first is not, nor is the last of an IPv4 subnet.
func (p *pool) host(a netip.Addr) bool {
	return a != p.subnet.Addr() && (a.Is6() || a != lastAddr(p.subnet))
}

// contains tells whether an address belongs to one of the network's subnets. One that is not valid belongs to none.
func contains(n *shoal.Network, addr netip.Prefix) bool {
	return slices.ContainsFunc(n.IPAM, func(s shoal.Subnet) bool { return s.Subnet.Contains(addr.Addr()) })
}

// addresses is the state of one network's addresses: what is in use, and where to go on.
type addresses struct {
	pools []*pool
	used  map[netip.Addr]bool
}

// newAddresses derives from the view which addresses of a network are in use: gateways, auxiliary addresses, VIPs, addresses of
// nodes, and addresses of tasks that have not ended, including tasks of a network that was removed. The search for a free address
// continues after the one given out last, so that an address that has just become free is not given to another task while nodes
// may still send packets for its old owner there.
func newAddresses(v store.View, n *shoal.Network) *addresses {
	a := &addresses{pools: poolsOf(n), used: map[netip.Addr]bool{}}
	for _, s := range n.IPAM {
		a.markUsed(s.Gateway, time.Time{})
		for _, aux := range s.Aux {
			a.markUsed(aux, time.Time{})
		}
	}
	for _, s := range v.Services() {
		for _, vip := range s.Endpoint.VIPs {
			if vip.NetworkID == n.ID {
				a.markUsed(vip.Addr.Addr(), s.CreatedAt)
				a.markUsed(vip.Addr6.Addr(), s.CreatedAt)
			}
		}
	}
	if n.Spec.Ingress {
		for _, node := range v.Nodes() {
			a.markUsed(node.IngressAddr.Addr(), node.CreatedAt)
			a.markUsed(node.IngressAddr6.Addr(), node.CreatedAt)
		}
	}
	others := map[shoal.NetworkID]bool{}
	for _, other := range v.Networks() {
		others[other.ID] = other.ID != n.ID
	}
	for _, t := range v.Tasks() {
		for _, at := range t.Networks {
			if others[at.NetworkID] {
				continue
			}
			for _, addr := range at.Addresses {
				if t.Status.State.Ended() {
					a.advance(addr.Addr(), t.CreatedAt)
				} else {
					a.markUsed(addr.Addr(), t.CreatedAt)
				}
			}
		}
	}
	return a
}

// markUsed keeps an address from being given out. when is the time at which it was given out; zero for an address that the
// allocator did not give out. An address that is not valid changes nothing.
func (a *addresses) markUsed(addr netip.Addr, when time.Time) {
	if !addr.IsValid() {
		return
	}
	a.used[addr] = true
	if !when.IsZero() {
		a.advance(addr, when)
	}
}

// advance makes the search for a free address go on after one that was given out, unless a later one was given out since.
func (a *addresses) advance(addr netip.Addr, when time.Time) {
	for _, p := range a.pools {
		if p.from.Contains(addr) && (when.After(p.when) || when.Equal(p.when) && (!p.last.IsValid() || p.last.Less(addr))) {
			p.last, p.when = addr, when
		}
	}
}

// allocate gives out an address of one family.
func (a *addresses) allocate(is4 bool) (netip.Prefix, error) {
	for _, p := range a.pools {
		if p.subnet.Addr().Is4() != is4 {
			continue
		}
		if addr := a.free(p); addr.IsValid() {
			a.used[addr] = true
			p.last = addr
			return netip.PrefixFrom(addr, p.subnet.Bits()), nil
		}
	}
	return netip.Prefix{}, errFull
}

// allocateRequested gives out an address that was asked for.
func (a *addresses) allocateRequested(addr netip.Addr) (netip.Prefix, error) {
	for _, p := range a.pools {
		if p.subnet.Contains(addr) && !a.used[addr] && p.host(addr) {
			a.used[addr] = true
			return netip.PrefixFrom(addr, p.subnet.Bits()), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("requested address %s is not available", addr)
}

// free finds the next free address after the one given out last, going round once; invalid if there is none.
func (a *addresses) free(p *pool) netip.Addr {
	first, last := p.from.Addr(), lastAddr(p.from)
	addr := first
	if p.last.IsValid() && p.last != last {
		addr = p.last.Next()
	}
	for tries := len(a.used) + 4; tries > 0; tries-- {
		if !a.used[addr] && p.host(addr) {
			return addr
		}
		if addr == last {
			addr = first
		} else {
			addr = addr.Next()
		}
	}
	return netip.Addr{}
}
