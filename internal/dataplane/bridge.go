package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"

	"github.com/vishvananda/netlink"
)

// ownAlias marks links in the node's namespace as made by this room.
const ownAlias = "shoal"

const defaultMTU = 1500

func mtuOr(mtu, otherwise int) int {
	if mtu > 0 {
		return mtu
	}
	return otherwise
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (p *Plane) applyBridges(c *Config, failed *failures) {
	if len(c.Bridges) > 0 {
		failed.note("forwarding", p.InNode(func() error { return sysctl("net/ipv4/ip_forward", "1") }))
	}
	for _, name := range keys(c.Bridges) {
		b := c.Bridges[name]
		if was := p.applied.bridges[name]; was == b || reflect.DeepEqual(was, b) {
			continue
		}
		err := p.applyBridge(b)
		failed.note("bridge "+name, err)
		if err == nil {
			p.applied.bridges[name] = b
		}
	}
}

func (p *Plane) applyBridge(b *Bridge) error {
	mtu := mtuOr(b.MTU, defaultMTU)
	link, err := p.node.LinkByName(b.Name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: b.Name, MTU: mtu, HardwareAddr: mac(b.Gateway.Addr()), Alias: ownAlias, TxQLen: -1}}
		if err := p.node.LinkAdd(link); err != nil {
			return fmt.Errorf("create bridge: %w", err)
		}
		link, err = p.node.LinkByName(b.Name)
	}
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if link.Attrs().Alias != ownAlias {
		if err := p.node.LinkSetAlias(link, ownAlias); err != nil {
			return fmt.Errorf("adopt bridge: %w", err)
		}
	}
	if err := setAddress(p.node, link, b.Gateway); err != nil {
		return err
	}
	if err := p.node.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	return p.InNode(func() error { return sysctl("net/ipv4/conf/"+b.Name+"/route_localnet", "1") })
}

// setAddress gives the link this address and no other.
func setAddress(h *netlink.Handle, link netlink.Link, want netip.Prefix) error {
	addrs, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	found := false
	for _, a := range addrs {
		if a.IPNet.String() == ipnet(want).String() {
			found = true
			continue
		}
		if err := h.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipnet(want)}); err != nil {
		return fmt.Errorf("add address %s: %w", want, err)
	}
	return nil
}

// pruneBridges removes bridges of ours that are no longer wanted.
func (p *Plane) pruneBridges(c *Config) error {
	unwanted := len(p.applied.bridges) == 0 // after Forget the kernel may hold what nobody remembers
	for name := range p.applied.bridges {
		if c.Bridges[name] == nil {
			unwanted = true
		}
	}
	if !unwanted && p.looked {
		return nil
	}
	links, err := p.node.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	p.looked = true
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() != "bridge" || l.Attrs().Alias != ownAlias || c.Bridges[name] != nil {
			continue
		}
		if err := p.node.LinkDel(l); err != nil {
			return fmt.Errorf("remove bridge %s: %w", name, err)
		}
		delete(p.applied.bridges, name)
	}
	return nil
}

// parseMAC reads an endpoint's hardware address.
func parseMAC(e Endpoint) (net.HardwareAddr, error) {
	if e.MAC == "" {
		return mac(e.Addr.Addr()), nil
	}
	hw, err := net.ParseMAC(e.MAC)
	if err != nil {
		return nil, fmt.Errorf("read hardware address of %s: %w", e.Name, err)
	}
	return hw, nil
}
