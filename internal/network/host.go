package network

import (
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// routes is what the node reaches otherwise than by its default routes.
func (n *Networks) routes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	err := n.plane.InNode(func() error {
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

// HostRoutes is the subnets that the node reaches by itself, those of the cluster's networks left out: no new network of the
// cluster may overlap them.
func (n *Networks) HostRoutes() ([]netip.Prefix, error) {
	all, err := n.routes()
	if err != nil {
		return nil, err
	}
	table := n.Table()
	var out []netip.Prefix
	for _, route := range all {
		if !inCluster(table, route) && route != shoal.TunnelRange() {
			out = append(out, route)
		}
	}
	return out, nil
}

func inCluster(table shoal.Table, route netip.Prefix) bool {
	for _, network := range table.Networks {
		for _, s := range network.IPAM {
			if s.Subnet.Overlaps(route) {
				return true
			}
		}
	}
	return false
}

// HostAddrs6 are the IPv6 addresses of the node, other than on its own networks, that reach beyond its links.
func (n *Networks) HostAddrs6() ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hostAddrs6Locked()
}

func (n *Networks) hostAddrs6Locked() ([]netip.Addr, error) {
	own := n.subnetsLocked()
	var out []netip.Addr
	err := n.plane.InNode(func() error {
		list, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		for _, a := range list {
			addr, ok := netip.AddrFromSlice(a.IP)
			if ok && addr.IsGlobalUnicast() && !overlapsAny(netip.PrefixFrom(addr, addr.BitLen()), own) {
				out = append(out, addr)
			}
		}
		return err
	})
	return out, err
}
