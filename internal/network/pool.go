package network

import (
	"crypto/rand"
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
	return errdefs.ErrInvalidArgument.WithMessage("all predefined address pools have been fully subnetted")
}

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

// localSubnet6 is a random subnet of unique local addresses (RFC 4193).
func localSubnet6(used []netip.Prefix) netip.Prefix {
	for {
		b := [16]byte{0: 0xfd}
		_, _ = rand.Read(b[1:6]) // never fails
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !overlapsAny(p, used) {
			return p
		}
	}
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

// reuseDelay is how long a released address is not reused: the kernel removes the interface that had it in the background.
const reuseDelay = 2 * time.Second

// addressAllocator allocates the addresses of one subnet.
type addressAllocator struct {
	subnet, allocRange netip.Prefix
	used               map[netip.Addr]bool
	released           map[netip.Addr]time.Time
}

func newAddressAllocator(subnet, allocRange netip.Prefix) *addressAllocator {
	if !allocRange.IsValid() {
		allocRange = subnet
	}
	return &addressAllocator{subnet: subnet.Masked(), allocRange: allocRange.Masked(), used: map[netip.Addr]bool{}, released: map[netip.Addr]time.Time{}}
}

// take returns want if it is valid and free, or else the lowest free address, preferring those that were not released within reuseDelay.
func (a *addressAllocator) take(want netip.Addr, now time.Time) (netip.Addr, error) {
	if want.IsValid() {
		if !a.subnet.Contains(want) {
			return netip.Addr{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid address %s: It does not belong to any of this network's subnets", want))
		}
		if a.used[want] {
			return netip.Addr{}, errdefs.ErrPermissionDenied.WithMessage("Address already in use") // Docker's wording
		}
		a.used[want] = true
		return want, nil
	}
	var recentlyReleased netip.Addr
	for c := a.allocRange.Addr(); a.allocRange.Contains(c); c = c.Next() {
		// The first address is the network's own and the last one, of IPv4, is the broadcast address.
		if a.used[c] || a.subnet.Bits() < c.BitLen()-1 && (c == a.subnet.Addr() || c.Is4() && !a.subnet.Contains(c.Next())) {
			continue
		}
		if since, ok := a.released[c]; ok && now.Sub(since) < reuseDelay {
			if !recentlyReleased.IsValid() {
				recentlyReleased = c
			}
			continue
		}
		a.used[c] = true
		delete(a.released, c)
		return c, nil
	}
	if recentlyReleased.IsValid() {
		a.used[recentlyReleased] = true
		delete(a.released, recentlyReleased)
		return recentlyReleased, nil
	}
	return netip.Addr{}, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("no available %s addresses on this network's address pools", map[bool]string{true: "IPv4", false: "IPv6"}[a.subnet.Addr().Is4()]))
}

func (a *addressAllocator) release(addr netip.Addr, now time.Time) {
	delete(a.used, addr)
	a.released[addr] = now
}
