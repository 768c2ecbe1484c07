package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
)

// AddressPool is a range that subnets of a size are cut from.
type AddressPool struct {
	Base netip.Prefix
	Size int // bits of each subnet
}

// defaultPools is Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 by /20.
func defaultPools() []AddressPool {
	var pools []AddressPool
	for i := 17; i < 32; i++ {
		pools = append(pools, AddressPool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i)}), 16), 16})
	}
	return append(pools, AddressPool{netip.MustParsePrefix("192.168.0.0/16"), 20})
}

// errNoPool is Docker's text for when every subnet is taken.
func errNoPool() error {
	return fmt.Errorf("all predefined address pools have been fully subnetted%w", hidden{errdefs.ErrInvalidArgument})
}

// hidden gives an error a kind without adding to its text.
type hidden struct{ kind error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.kind }

// freeSubnet is the first subnet of the pools that overlaps none of those in use.
func freeSubnet(pools []AddressPool, used []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools {
		size := max(pool.Size, pool.Base.Bits())
		base, step := number(pool.Base.Masked().Addr()), uint64(1)<<(32-size)
		end := uint64(base) + uint64(1)<<(32-pool.Base.Bits())
		for at := uint64(base); at < end; at += step {
			candidate := netip.PrefixFrom(address(uint32(at)), size)
			if !overlapsAny(candidate, used) {
				return candidate, nil
			}
		}
	}
	return netip.Prefix{}, errNoPool()
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		if o.Overlaps(p) {
			return true
		}
	}
	return false
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// rest is how long an address is left alone once it is released, since the interface that had it goes in the background.
const rest = 2 * time.Second

// addresses hands out the addresses of one subnet.
type addresses struct {
	subnet, within netip.Prefix
	used           map[netip.Addr]bool
	released       map[netip.Addr]time.Time
}

func newAddresses(subnet, within netip.Prefix) *addresses {
	if !within.IsValid() {
		within = subnet
	}
	return &addresses{subnet: subnet.Masked(), within: within.Masked(), used: map[netip.Addr]bool{}, released: map[netip.Addr]time.Time{}}
}

// take returns want if it is valid and free, or else the lowest free address, preferring those that have rested.
func (a *addresses) take(want netip.Addr, now time.Time) (netip.Addr, error) {
	if want.IsValid() {
		if !a.subnet.Contains(want) {
			return netip.Addr{}, fmt.Errorf("invalid address %s: It does not belong to any of this network's subnets%w", want, hidden{errdefs.ErrInvalidArgument})
		}
		if a.used[want] {
			return netip.Addr{}, fmt.Errorf("Address already in use%w", hidden{errdefs.ErrPermissionDenied}) //nolint:staticcheck // Docker's wording
		}
		a.used[want] = true
		return want, nil
	}
	first, size := number(a.within.Addr()), uint64(1)<<(32-a.within.Bits())
	network, broadcast := number(a.subnet.Addr()), uint32(uint64(number(a.subnet.Addr()))+uint64(1)<<(32-a.subnet.Bits())-1)
	var tired netip.Addr
	for i := range size {
		v := first + uint32(i)
		c := address(v)
		if a.used[c] || a.subnet.Bits() < 31 && (v == network || v == broadcast) {
			continue
		}
		if since, ok := a.released[c]; ok && now.Sub(since) < rest {
			if !tired.IsValid() {
				tired = c
			}
			continue
		}
		a.used[c] = true
		delete(a.released, c)
		return c, nil
	}
	if tired.IsValid() {
		a.used[tired] = true
		delete(a.released, tired)
		return tired, nil
	}
	return netip.Addr{}, fmt.Errorf("no available IPv4 addresses on this network's address pools%w", hidden{errdefs.ErrUnavailable})
}

func (a *addresses) release(addr netip.Addr, now time.Time) {
	delete(a.used, addr)
	a.released[addr] = now
}
