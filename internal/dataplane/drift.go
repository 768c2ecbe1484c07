package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Drift compares the kernel with what was applied, names the parts that others have changed, and forgets them, so that the next
// Apply makes them anew.
func (p *Plane) Drift() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var parts []string
	for name, b := range p.applied.bridges {
		if !p.bridgeIntact(b) {
			delete(p.applied.bridges, name)
			parts = append(parts, "bridge "+name)
		}
	}
	if in := p.applied.ingress; in != nil && !p.ingressIntact(in) {
		p.applied.ingress = nil
		parts = append(parts, "ingress")
	}
	if p.applied.rules != nil && !p.rulesIntact() {
		p.applied.rules = nil
		parts = append(parts, "ports")
	}
	for id, o := range p.applied.overlays {
		if !p.overlayIntact(o) {
			delete(p.applied.overlays, id)
			parts = append(parts, "overlay "+id)
		}
	}
	gone := slices.Clone(parts)
	for name, s := range p.applied.sandboxes {
		if s.on(gone) || !p.sandboxIntact(name, s) {
			delete(p.applied.sandboxes, name)
			parts = append(parts, "sandbox "+name)
		}
	}
	slices.Sort(parts)
	return parts
}

func (p *Plane) bridgeIntact(b *Bridge) bool {
	link, err := p.node.LinkByName(b.Name)
	forwarding := false
	_ = p.InNode(func() error { // a file that cannot be read is not what it was either
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		forwarding = strings.TrimSpace(string(text)) != "0"
		return err
	})
	return err == nil && forwarding && link.Attrs().Flags&unix.IFF_UP != 0 && hasAddress(p.node, link, b.Gateway)
}

func hasAddress(h *netlink.Handle, link netlink.Link, want netip.Prefix) bool {
	addrs, err := h.AddrList(link, netlink.FAMILY_V4)
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == ipnet(want).String() })
}

func (p *Plane) ingressIntact(in *Ingress) bool {
	link, err := p.node.LinkByName(ingressDevice)
	if err != nil || link.Attrs().Flags&unix.IFF_UP == 0 || !hasAddress(p.node, link, in.Addr) {
		return false
	}
	have, err := programmed(p.node, link.Attrs().Index)
	if err != nil || !maps.Equal(have, in.remotes()) {
		return false
	}
	routes, err := p.node.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_UNSPEC},
		netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err != nil {
		return false
	}
	via := 0
	for _, r := range routes {
		if r.Gw != nil {
			via++
		}
	}
	rules, err := p.node.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	ours := 0
	for _, r := range rules {
		if r.Priority >= prefOthers && r.Priority <= prefMarked && r.IifName == in.Gwbridge {
			ours++
		}
	}
	return via == len(in.Tasks)+len(in.Peers) && ours == 2+len(in.Peers)
}

// rulesIntact looks at the node's table if anything has changed the namespace's nftables. Others may do that at any time: then it
// counts what is left.
func (p *Plane) rulesIntact() bool {
	now, err := generation(p.home)
	if err == nil && now == p.applied.generation {
		return true
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(p.home)))
	if err != nil {
		return true // that says nothing about the table
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
	for name, c := range p.applied.rules.chains {
		if rules, err := conn.GetRules(table, &nftables.Chain{Table: table, Name: name}); err != nil || len(rules) != len(c.rules) {
			return false
		}
	}
	for name, s := range p.applied.rules.sets {
		t := &transaction{table: table}
		if elements, err := conn.GetSetElements(t.kernelSet(name, s)); err != nil || len(elements) != len(s.elements) {
			return false
		}
	}
	p.applied.generation = now
	return true
}

func (p *Plane) overlayIntact(o *Overlay) bool {
	intact := false
	_ = p.look(OverlayNamespace(o.ID), func(h *netlink.Handle, _ netns.NsHandle) error { // what cannot be looked at is not intact
		br, err := h.LinkByName(overlayBridge)
		if err != nil {
			return err
		}
		vx, err := h.LinkByName(overlayTunnel)
		if err != nil {
			return err
		}
		have, err := programmed(h, vx.Attrs().Index)
		up := br.Attrs().Flags&vx.Attrs().Flags&unix.IFF_UP != 0
		intact = err == nil && up && vx.Attrs().MasterIndex == br.Attrs().Index && maps.Equal(have, o.Remotes)
		return err
	})
	return intact
}

func (p *Plane) sandboxIntact(name string, s *sandboxState) bool {
	intact := false
	_ = p.look(name, func(h *netlink.Handle, ns netns.NsHandle) error { // what cannot be looked at is not intact
		now, err := generation(ns)
		if err != nil || now != s.generation {
			return err
		}
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, e := range s.config.Endpoints {
			i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == e.Name })
			if i < 0 || !connected(links[i], e) || !hasAddress(h, links[i], e.Addr) {
				return nil
			}
		}
		intact = true
		return nil
	})
	return intact
}

// on tells whether the sandbox has an endpoint on one of the parts: its far end may be on no bridge any more.
func (s *sandboxState) on(parts []string) bool {
	return slices.ContainsFunc(s.config.Endpoints, func(e Endpoint) bool {
		return slices.Contains(parts, "bridge "+e.Bridge) || slices.Contains(parts, "overlay "+e.Overlay)
	})
}

// connected tells whether the interface is up and, if it leads somewhere, its other end too.
func connected(l netlink.Link, e Endpoint) bool {
	const lowerUp = 1 << 16
	flags := l.Attrs().RawFlags
	return flags&unix.IFF_UP != 0 && (e.Bridge == "" && e.Overlay == "" || flags&lowerUp != 0)
}

func (p *Plane) look(name string, do func(*netlink.Handle, netns.NsHandle) error) error {
	ns, err := netns.GetFromPath(p.path(name))
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return do(h, ns)
}

// generation is a number that changes with every change to the namespace's nftables, whoever makes it.
func generation(ns netns.NsHandle) (uint32, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, &mdnetlink.Config{NetNS: int(ns)})
	if err != nil {
		return 0, fmt.Errorf("open nftables: %w", err)
	}
	defer func() { _ = conn.Close() }()
	replies, err := conn.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: mdnetlink.Request},
		Data:   make([]byte, 4), // struct nfgenmsg
	})
	if err != nil {
		return 0, fmt.Errorf("ask for nftables generation: %w", err)
	}
	for _, r := range replies {
		if len(r.Data) < 4 {
			continue
		}
		attrs, err := mdnetlink.NewAttributeDecoder(r.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read nftables generation: %w", err)
		}
		attrs.ByteOrder = binary.BigEndian
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_GEN_ID {
				return attrs.Uint32(), nil
			}
		}
	}
	return 0, errors.New("no nftables generation was told")
}
