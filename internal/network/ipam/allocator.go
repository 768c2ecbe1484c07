package ipam

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
)

// reuseDelay is how long a released address is not reused: the kernel removes the interface that had it in the background.
const reuseDelay = 2 * time.Second

// Allocator allocates the addresses of one subnet. It is guarded by its owner.
type Allocator struct {
	subnet, allocRange netip.Prefix // addresses are chosen from allocRange, which is within subnet
	used               map[netip.Addr]bool
	released           map[netip.Addr]time.Time
}

// NewAllocator makes one with every address free. Without a valid allocRange it chooses from all of the subnet.
func NewAllocator(subnet, allocRange netip.Prefix) *Allocator {
	if !allocRange.IsValid() {
		allocRange = subnet
	}
	return &Allocator{subnet: subnet.Masked(), allocRange: allocRange.Masked(), used: map[netip.Addr]bool{}, released: map[netip.Addr]time.Time{}}
}

// Take returns want if it is valid and free, or else the lowest free address, preferring those that were not released within reuseDelay. Errors
// have Docker's words.
func (a *Allocator) Take(want netip.Addr, now time.Time) (netip.Addr, error) {
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

// Reserve marks an address as in use, whether it was free or not.
func (a *Allocator) Reserve(addr netip.Addr) { a.used[addr] = true }

// Release frees an address. Others are preferred to it for reuseDelay.
func (a *Allocator) Release(addr netip.Addr, now time.Time) {
	delete(a.used, addr)
	a.released[addr] = now
}
