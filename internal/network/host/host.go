// Package host reads from the kernel what a node's namespace has that is not the networks' own: routes, addresses and interfaces.
package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/network/ipam"
)

// Host is the node's own namespace.
type Host struct {
	// Owner is the alias of the node's own links.
	Owner string
	// InNode runs a function in the namespace.
	InNode func(func() error) error
}

// Routes is what the node reaches otherwise than by its default routes.
func (h Host) Routes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	err := h.InNode(func() error {
		list, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Dst == nil {
				continue
			}
			bits, _ := r.Dst.Mask.Size()
			if a, ok := netip.AddrFromSlice(r.Dst.IP); ok && bits > 0 && !a.IsLinkLocalUnicast() && !a.IsMulticast() {
				out = append(out, netip.PrefixFrom(a.Unmap(), bits))
			}
		}
		return nil
	})
	return out, err
}

// Addrs6 is the IPv6 addresses of the node that reach beyond its links, without those in the subnets of networks.
func (h Host) Addrs6(networks []netip.Prefix) ([]netip.Addr, error) {
	var out []netip.Addr
	err := h.InNode(func() error {
		list, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		for _, a := range list {
			addr, ok := netip.AddrFromSlice(a.IP)
			if ok && addr.IsGlobalUnicast() && !ipam.Overlaps(netip.PrefixFrom(addr, addr.BitLen()), networks) {
				out = append(out, addr)
			}
		}
		return err
	})
	return out, err
}

// CheckBridge returns an error, in Docker's words where it has some, if a bridge of the name cannot be made because the node has such an interface already.
// Even a bridge is not taken over: it would lose its addresses, by which others may reach the node.
func (h Host) CheckBridge(name string) error {
	return h.InNode(func() error {
		link, err := netlink.LinkByName(name)
		if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
			return nil
		}
		switch {
		case err != nil:
			return err
		case link.Type() != "bridge":
			return fmt.Errorf("existing interface %s is not a bridge", name)
		case link.Attrs().Alias != h.Owner:
			return fmt.Errorf("existing bridge %s was made by another program", name)
		}
		return nil
	})
}

// IsOthers tells whether another daemon has made the interface of the name.
func (h Host) IsOthers(name string) bool {
	others := false
	_ = h.InNode(func() error { // what cannot be looked at will not be made either
		link, err := netlink.LinkByName(name)
		others = err == nil && rtnl.OwnedByAnother(link, h.Owner)
		return err
	})
	return others
}

// BridgeAddr is the IPv4 address of a bridge that is there already; invalid if it has none.
func (h Host) BridgeAddr(name string) (addr netip.Prefix, err error) {
	err = h.InNode(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Type() != "bridge" {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("bridge device with non default name %s must be created manually", name))
		}
		list, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(list) == 0 {
			return err
		}
		a, _ := netip.AddrFromSlice(list[0].IP)
		bits, _ := list[0].Mask.Size()
		addr = netip.PrefixFrom(a.Unmap(), bits)
		return nil
	})
	return addr, err
}

// HasIPvlan tells whether the kernel has ipvlan interfaces. One without a parent is refused for that reason where it has, and as an unknown kind of link
// where it has not.
func (h Host) HasIPvlan() bool {
	err := h.InNode(func() error {
		return netlink.LinkAdd(&netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{Name: "ipvlan-probe"}})
	})
	return !errors.Is(err, unix.EOPNOTSUPP)
}

// CheckLink returns an error if the node has no interface of the name.
func (h Host) CheckLink(name string) error {
	return h.InNode(func() error {
		_, err := netlink.LinkByName(name)
		return err
	})
}
