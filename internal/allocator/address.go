package allocator

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// pool is the part of one subnet that addresses are taken from.
type pool struct {
	subnet netip.Prefix
	from   netip.Prefix
}

type pools []pool

func poolsOf(n *shoal.Network) pools {
	var all pools
	for _, s := range n.IPAM {
		p, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			continue
		}
		from, err := netip.ParsePrefix(s.Range)
		if err != nil {
			from = p
		}
		all = append(all, pool{p.Masked(), from.Masked()})
	}
	return all
}

// contain tells whether an address in "10.0.0.2/24" form belongs to one of the subnets.
func (ps pools) contain(addr string) bool {
	p, err := netip.ParsePrefix(addr)
	if err != nil {
		return false
	}
	for _, pool := range ps {
		if pool.subnet.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// addresses is the state of one network's addresses: what is in use, and where to go on.
type addresses struct {
	pools  pools
	used   map[netip.Addr]bool
	cursor map[bool]netip.Addr // by Is4: the address given out last
	last   map[bool]time.Time
}

// newAddresses derives from the view which addresses of a network are in use: gateways and auxiliary ones, virtual addresses,
// those of nodes, and those of tasks that have not ended. The search goes on after the address given out last, so that one
// that has just become free is not given to someone else while nodes may still route to its old owner.
func newAddresses(v store.View, n *shoal.Network) *addresses {
	a := &addresses{pools: poolsOf(n), used: map[netip.Addr]bool{}, cursor: map[bool]netip.Addr{}, last: map[bool]time.Time{}}
	for _, s := range n.IPAM {
		a.hold(s.Gateway, time.Time{})
		for _, aux := range s.Aux {
			a.hold(aux, time.Time{})
		}
	}
	for _, s := range v.Services() {
		for _, vip := range s.Endpoint.VIPs {
			if vip.NetworkID == n.ID {
				a.hold(vip.Addr, s.CreatedAt)
			}
		}
	}
	if n.Spec.Ingress {
		for _, node := range v.Nodes() {
			a.hold(node.IngressAddr, node.CreatedAt)
		}
	}
	for _, t := range v.Tasks() {
		for _, at := range t.Networks {
			if at.NetworkID != n.ID {
				continue
			}
			for _, addr := range at.Addresses {
				if !t.Status.State.Ended() {
					a.hold(addr, t.CreatedAt)
				} else if p, err := netip.ParsePrefix(addr); err == nil {
					a.move(p.Addr(), t.CreatedAt)
				}
			}
		}
	}
	return a
}

func (a *addresses) hold(text string, when time.Time) {
	p, err := netip.ParsePrefix(text)
	addr := p.Addr()
	if err != nil {
		if addr, err = netip.ParseAddr(text); err != nil {
			return
		}
	}
	a.used[addr] = true
	if !when.IsZero() {
		a.move(addr, when)
	}
}

func (a *addresses) move(addr netip.Addr, when time.Time) {
	is4 := addr.Is4()
	if when.After(a.last[is4]) || (when.Equal(a.last[is4]) && (!a.cursor[is4].IsValid() || a.cursor[is4].Less(addr))) {
		a.cursor[is4], a.last[is4] = addr, when
	}
}

// take gives out one address of each family that the network has, IPv4 first.
func (a *addresses) take() ([]string, error) {
	var given []string
	for _, is4 := range []bool{true, false} {
		exists := false
		var found netip.Prefix
		for _, p := range a.pools {
			if p.subnet.Addr().Is4() != is4 {
				continue
			}
			exists = true
			if found = a.free(p); found.IsValid() {
				break
			}
		}
		if !exists {
			continue
		}
		if !found.IsValid() {
			return nil, fmt.Errorf("could not find an available IP while allocating: no address is left")
		}
		a.used[found.Addr()] = true
		a.cursor[is4] = found.Addr()
		given = append(given, found.String())
	}
	if len(given) == 0 {
		return nil, fmt.Errorf("could not find an available IP while allocating: the network has no subnet")
	}
	return given, nil
}

// takeThis gives out an address that was asked for.
func (a *addresses) takeThis(text string) ([]string, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil, fmt.Errorf("parse requested address: %w", err)
	}
	for _, p := range a.pools {
		if p.subnet.Contains(addr) && !a.used[addr] {
			a.used[addr] = true
			return []string{netip.PrefixFrom(addr, p.subnet.Bits()).String()}, nil
		}
	}
	return nil, fmt.Errorf("requested address %s is not available", text)
}

// free finds the next free address after the cursor, going round once.
func (a *addresses) free(p pool) netip.Prefix {
	first, last := p.from.Addr(), lastAddr(p.from)
	start := first
	if c := a.cursor[first.Is4()]; c.IsValid() && p.from.Contains(c) && c != last {
		start = c.Next()
	}
	for addr, tries := start, len(a.used)+4; tries > 0; tries-- {
		if !a.used[addr] && addr != p.subnet.Addr() && (addr != lastAddr(p.subnet) || !addr.Is4()) {
			return netip.PrefixFrom(addr, p.subnet.Bits())
		}
		if addr == last {
			addr = first
		} else {
			addr = addr.Next()
		}
	}
	return netip.Prefix{}
}
