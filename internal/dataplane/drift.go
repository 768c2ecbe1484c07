package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
)

// thoroughly is how often all entries are compared, even if none was removed: one may have been changed.
const thoroughly = 30

// Drift compares the kernel with what was applied, names the parts that others have changed, and forgets them, so that the next
// Apply makes them anew. A thorough look compares all entries; one that is not does so every thirtieth time.
func (p *Plane) Drift(thorough bool) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	thorough = thorough || p.looks%thoroughly == 0
	p.looks++
	var parts []string
	for name, b := range p.applied.bridges {
		if !p.bridgeIntact(b) {
			delete(p.applied.bridges, name)
			parts = append(parts, "bridge "+name)
		}
	}
	if w := p.applied.wire; w != nil && !p.wireIntact(w, thorough) {
		p.applied.wire = nil
		parts = append(parts, "wire")
	}
	if in := p.applied.ingress; in != nil && !p.ingressIntact(in, thorough) {
		p.applied.ingress = nil
		parts = append(parts, "ingress")
	}
	if p.applied.node != nil && !p.rulesIntact() {
		p.applied.node = nil
		parts = append(parts, "ports")
	}
	for id, o := range p.applied.overlays {
		if !p.overlayIntact(o, thorough) {
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

// Parts counts what Drift looks at.
func (p *Plane) Parts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := len(p.applied.bridges) + len(p.applied.overlays) + len(p.applied.sandboxes)
	if p.applied.wire != nil {
		count++
	}
	if p.applied.ingress != nil {
		count++
	}
	if p.applied.node != nil {
		count++
	}
	return count
}

func (p *Plane) bridgeIntact(b *Bridge) bool {
	link, err := p.node.LinkByName(b.Name)
	forwarding := false
	_ = p.InNode(func() error { // a file that cannot be read is not what it was either
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		forwarding = strings.TrimSpace(string(text)) != "0"
		return err
	})
	return err == nil && forwarding && link.Attrs().Flags&unix.IFF_UP != 0 && hasAddress(p.node, link, b.Gateway) && hasAddress(p.node, link, b.Gateway6)
}

func hasAddress(h *netlink.Handle, link netlink.Link, want netip.Prefix) bool {
	if !want.IsValid() {
		return true
	}
	addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == ipnet(want).String() })
}

func (p *Plane) ingressIntact(in *Ingress, thorough bool) bool {
	link, err := p.node.LinkByName(ingressDevice)
	if err != nil || link.Attrs().Flags&unix.IFF_UP == 0 || !hasAddress(p.node, link, in.Addr) || !hasAddress(p.node, link, in.Addr6) {
		return false
	}
	have, err := programmed(p.node, link.Attrs().Index)
	if err != nil || !maps.Equal(have, in.remotes()) {
		return false
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
	if ours != 2+len(in.Peers) {
		return false
	}
	disturbed := p.disturbed(routeWatch, func() (*watch, error) { return watchRoutes(p.home) })
	return !disturbed && !thorough || p.routesIntact(link.Attrs().Index, in)
}

// routesIntact counts the routes to tasks and peers.
func (p *Plane) routesIntact(device int, in *Ingress) bool {
	have, err := p.routesVia(device)
	want := in.Tasks.Len()
	for _, peer := range in.Peers {
		if want++; peer.Addr6.IsValid() {
			want++
		}
	}
	return err == nil && len(have) == want
}

// rulesIntact looks at the node's table if anything has changed the namespace's nftables. Others may do that at any time: then it
// counts what is left.
func (p *Plane) rulesIntact() bool {
	n := p.applied.node
	now, err := generation(p.home)
	if err != nil || now == n.tables.generation {
		return err == nil
	}
	want := newRuleset()
	want.include(n.frame)
	whole := &nodeState{vipTable: newVIPTable()}
	whole.write(want, pmap.Changes(MeshPorts{}, n.mesh))
	for t := range n.turns {
		t.write(want, verdict(expr.VerdictReturn))
	}
	for s := range n.slots {
		s.write(want, n.meshSlot(s))
	}
	if !n.tables.hold(want) {
		return false
	}
	n.tables.generation = now
	return true
}

func (p *Plane) overlayIntact(o *Overlay, thorough bool) bool {
	intact := false
	_ = p.look(OverlayNamespace(o.ID), func(h *netlink.Handle, ns netns.NsHandle) error { // what cannot be looked at is not intact
		br, err := h.LinkByName(overlayBridge)
		if err != nil {
			return err
		}
		vx, err := h.LinkByName(overlayTunnel)
		if err != nil {
			return err
		}
		up := br.Attrs().Flags&vx.Attrs().Flags&unix.IFF_UP != 0
		intact = up && vx.Attrs().MasterIndex == br.Attrs().Index
		disturbed := p.disturbed(o.ID, func() (*watch, error) { return watchNeighbours(ns) })
		if !intact || !disturbed && !thorough {
			return nil
		}
		have, err := programmed(h, vx.Attrs().Index)
		intact = err == nil && maps.Equal(have, maps.Collect(o.Remotes.All()))
		return err
	})
	return intact
}

func (p *Plane) sandboxIntact(name string, s *sandboxState) bool {
	intact := false
	_ = p.look(name, func(h *netlink.Handle, ns netns.NsHandle) error { // what cannot be looked at is not intact
		now, err := generation(ns)
		if err != nil || now != s.tables.generation {
			return err
		}
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, e := range s.config.Endpoints {
			i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == e.Name })
			if i < 0 || !connected(links[i], e) || !hasAddress(h, links[i], e.Addr) || !hasAddress(h, links[i], e.Addr6) {
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

// look works in the named namespace through netlink.
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
