package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
	for _, b := range c.Bridges {
		if b.Gateway6.IsValid() {
			failed.note("forwarding", p.InNode(forwardIPv6))
			break
		}
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
	if b.Gateway6.IsValid() {
		if err := p.InNode(func() error { return enableIPv6(b.Name) }); err != nil {
			return err
		}
	}
	if err := setAddresses(p.node, link, b.Gateway, b.Gateway6); err != nil {
		return err
	}
	if err := p.node.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	return p.InNode(func() error {
		// Answers to connections that the node itself makes by a loopback address come back from there with that address.
		dir := "net/ipv4/conf/" + b.Name
		return errors.Join(sysctl(dir+"/route_localnet", "1"), sysctl(dir+"/accept_local", "1"))
	})
}

// setAddresses gives the link these addresses, as far as they are valid, and no others. Addresses that the kernel itself has made for IPv6
// are left alone. Ours are known to be nobody else's: to wait until the kernel has found that out would take seconds.
func setAddresses(h *netlink.Handle, link netlink.Link, want ...netip.Prefix) error {
	addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	missing := map[string]netip.Prefix{}
	for _, w := range want {
		if w.IsValid() {
			missing[ipnet(w).String()] = w
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
		if _, ok := missing[ipnet(w).String()]; !w.IsValid() || !ok {
			continue
		}
		addr := &netlink.Addr{IPNet: ipnet(w)}
		if w.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", w, err)
		}
	}
	return nil
}

// enableIPv6 prepares an interface for addresses of ours, in the namespace of the calling thread.
func enableIPv6(device string) error {
	dir := "net/ipv6/conf/" + device + "/"
	return errors.Join(sysctl(dir+"disable_ipv6", "0"), sysctl(dir+"accept_dad", "0"), sysctl(dir+"accept_ra", "0"))
}

// forwardIPv6 makes the namespace of the calling thread forward. Interfaces that get their addresses and routes from a router would then
// no longer listen to it, unless they are told to.
func forwardIPv6() error {
	const conf = "/proc/sys/net/ipv6/conf"
	if now, err := os.ReadFile(conf + "/all/forwarding"); err == nil && strings.TrimSpace(string(now)) == "1" {
		return nil
	}
	devices, err := os.ReadDir(conf)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, d := range devices {
		key := "net/ipv6/conf/" + d.Name() + "/accept_ra"
		if now, err := os.ReadFile("/proc/sys/" + key); err == nil && strings.TrimSpace(string(now)) == "1" {
			if err := sysctl(key, "2"); err != nil {
				return err
			}
		}
	}
	return sysctl("net/ipv6/conf/all/forwarding", "1")
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
