// Package rtnl compares and sets what rtnetlink knows of interfaces: addresses, MTUs, prefixes. It also watches for removed entries
// (Monitor). It reads and writes the namespace of the netlink handle that it is given.
package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DefaultOwner is the alias (IFLA_IFALIAS) of links in the node's namespace that the data plane has made, and the name of its table there, unless several
// daemons share the namespace: the others have an owner of their own that begins with it. What has another alias is never removed.
const DefaultOwner = "shoal"

// OwnedByAnother tells whether a link was made by another daemon of this kind than the owner.
func OwnedByAnother(link netlink.Link, owner string) bool {
	alias := link.Attrs().Alias
	return alias != owner && (alias == DefaultOwner || strings.HasPrefix(alias, DefaultOwner+"-"))
}

// DefaultMTU is Ethernet's, in bytes.
const DefaultMTU = 1500

// IPNet converts a prefix with its address, which need not be that of the network.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// HostPrefix is the prefix of the single address.
func HostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// DefaultPrefix is the prefix of all addresses of a's family: the destination of a default route.
func DefaultPrefix(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// NotFound tells that the error is a look-up of a link that does not exist.
func NotFound(err error) bool {
	_, ok := errors.AsType[netlink.LinkNotFoundError](err)
	return ok
}

// IsUp tells whether the link is administratively up.
func IsUp(link netlink.Link) bool { return link.Attrs().Flags&unix.IFF_UP != 0 }

// SetAddresses gives the link these addresses, as far as they are valid, and no others. IPv6 addresses that the kernel has made itself
// (link-local ones, and those from router advertisements) are left alone. IPv6 addresses are set without duplicate detection, which takes seconds:
// the allocator gives each only once.
func SetAddresses(h *netlink.Handle, link netlink.Link, want ...netip.Prefix) error {
	addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	missing := map[string]netip.Prefix{}
	for _, w := range want {
		if w.IsValid() {
			missing[IPNet(w).String()] = w
		}
	}
	for _, a := range addrs {
		if _, ok := missing[a.IPNet.String()]; ok {
			delete(missing, a.IPNet.String())
			continue
		}
		if a.IP.To4() == nil && (a.IP.IsLinkLocalUnicast() || a.Flags&unix.IFA_F_PERMANENT == 0) {
			continue
		}
		if err := h.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	for _, w := range want {
		if !w.IsValid() {
			continue
		}
		if _, ok := missing[IPNet(w).String()]; !ok {
			continue
		}
		addr := &netlink.Addr{IPNet: IPNet(w)}
		if w.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", w, err)
		}
	}
	return nil
}

// HasAddresses tells whether the link has all of the addresses that are valid; false if the kernel does not say.
func HasAddresses(h *netlink.Handle, link netlink.Link, want ...netip.Prefix) bool {
	addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return false
	}
	for _, w := range want {
		if w.IsValid() && !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == IPNet(w).String() }) {
			return false
		}
	}
	return true
}

// PathMTU is the MTU, in bytes, of the interface that has the address; DefaultMTU if none has or the kernel does not say.
func PathMTU(h *netlink.Handle, local netip.Addr) int {
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return DefaultMTU
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == local {
			if l, err := h.LinkByIndex(a.LinkIndex); err == nil {
				return l.Attrs().MTU
			}
		}
	}
	return DefaultMTU
}
