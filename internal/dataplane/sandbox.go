package dataplane

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
)

// sandboxState is what a sandbox's kernel state was made from.
type sandboxState struct {
	config *Sandbox
	vipTable
	// inherited tells that there were flows before its table was made: they are not among those that it has noted.
	inherited bool
	// generation of the namespace's nftables is that of its tables.
	tables *tables
}

func (p *Plane) applySandbox(name string, s *Sandbox, c *Config) error {
	p.partsMu.Lock()
	was := p.applied.sandboxes[name]
	p.partsMu.Unlock()
	if was != nil && was.config.same(s) && maps.Equal(was.config.Services, s.Services) {
		return nil
	}
	if was != nil && was.config.Seed != s.Seed {
		was = nil // the order of all backends is another
	}
	p.partsMu.Lock()
	delete(p.applied.sandboxes, name)
	p.partsMu.Unlock()
	ns, err := netns.GetFromPath(p.path(name))
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer ns.Close()
	now, err := p.makeSandbox(name, ns, was, s, c)
	if err != nil {
		return errors.Join(err, p.closeTables(name))
	}
	p.partsMu.Lock()
	defer p.partsMu.Unlock()
	p.applied.sandboxes[name] = now
	return nil
}

// same tells that two sandboxes differ in services at most.
func (s *Sandbox) same(other *Sandbox) bool {
	return reflect.DeepEqual(s.Endpoints, other.Endpoints) && s.DNSPortTCP == other.DNSPortTCP && s.DNSPortUDP == other.DNSPortUDP && s.Seed == other.Seed
}

// serviceChange is a virtual address that appears, disappears or gets other backends.
type serviceChange = pmap.Change[netip.Addr, *VIP]

// changes is what differs in the services of two sandboxes.
func (s *Sandbox) changes(was *Sandbox) []serviceChange {
	var out []serviceChange
	for network, now := range s.Services {
		out = append(out, pmap.Changes(was.Services[network], now)...)
	}
	for network, old := range was.Services {
		if _, ok := s.Services[network]; !ok {
			out = append(out, pmap.Changes(old, Services{})...)
		}
	}
	return out
}

// makeSandbox turns what the sandbox was into what it shall be; was is nil if that is not known.
func (p *Plane) makeSandbox(name string, ns netns.NsHandle, was *sandboxState, s *Sandbox, c *Config) (*sandboxState, error) {
	now := &sandboxState{config: s}
	var err error
	if now.tables, err = p.tablesOf(name, ns); err != nil {
		return nil, err
	}
	if was == nil || !reflect.DeepEqual(was.config.Endpoints, s.Endpoints) {
		if err := p.applyEndpoints(ns, s, c); err != nil {
			return nil, err
		}
	}
	if was == nil {
		return now, p.newSandbox(name, ns, now)
	}
	now.vipTable, now.inherited = was.vipTable, was.inherited
	changes := s.changes(was.config)
	if err := now.change(was.config, changes); err != nil {
		return nil, err
	}
	if p.sockets != nil {
		if err := p.sockets.change(name, changes, s.Seed); err != nil {
			return nil, err
		}
	}
	if !now.inherited && len(abandoned(changes)) > 0 {
		if changes, err = now.tables.used(changes); err != nil {
			return nil, err
		}
	}
	return now, p.forget(ns, now.tables, abandoned(changes))
}

func (p *Plane) newSandbox(name string, ns netns.NsHandle, now *sandboxState) error {
	s := now.config
	if err := inNamespace(p.home, ns, func() error { return closeBriefly(true) }); err != nil {
		p.log.Warn("a busy client's connections may not be spread evenly", "sandbox", name, "err", err)
	}
	changes := s.changes(&Sandbox{})
	rules := s.frame()
	now.vipTable, now.inherited = newVIPTable(), !p.untracked(ns)
	now.write(rules, changes)
	if err := now.tables.replace(ns, rules); err != nil {
		return err
	}
	if p.sockets == nil {
		return nil
	}
	var cookie uint64
	err := inNamespace(p.home, ns, func() (err error) {
		cookie, err = namespaceCookie()
		return err
	})
	if err != nil {
		return err
	}
	return p.sockets.set(name, cookie, changes, s.Seed)
}

// change commits what the changes mean for the table.
func (n *sandboxState) change(was *Sandbox, changes []serviceChange) error {
	before, after := newRuleset(), newRuleset()
	if n.config.same(was) {
		balancing(before)
		balancing(after)
	} else {
		before, after = was.frame(), n.config.frame()
	}
	for _, c := range changes {
		if c.Had {
			n.before(before, c.Old, was.Seed)
		}
	}
	n.write(after, changes)
	after.keep(before)
	return n.tables.change(before, after)
}

// write enters the new services, and the turns and slots that the table lacks for them.
func (n *sandboxState) write(rs *ruleset, changes []serviceChange) {
	for _, c := range changes {
		if c.Has {
			n.after(rs, c.New, n.config.Seed)
		}
	}
}

// abandoned is the backends that are none any more.
func abandoned(changes []serviceChange) []netip.Addr {
	var gone []netip.Addr
	for _, c := range changes {
		switch {
		case c.Has && c.Had:
			gone = append(gone, missing(c.Old.Backends, c.New.Backends)...)
		case c.Had:
			gone = append(gone, c.Old.Backends...)
		}
	}
	return gone
}

// applyEndpoints makes the sandbox have these interfaces and no other. An interface that is there with its hardware address is
// adopted as it is.
func (p *Plane) applyEndpoints(ns netns.NsHandle, s *Sandbox, c *Config) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	have := map[string]netlink.Link{}
	for _, l := range links {
		if l.Attrs().Name == "lo" {
			continue
		}
		wanted := false
		for _, e := range s.Endpoints {
			wanted = wanted || e.Name == l.Attrs().Name && e.MAC == l.Attrs().HardwareAddr.String()
		}
		if wanted {
			have[l.Attrs().Name] = l
			continue
		}
		if l.Type() != "veth" && l.Type() != "bridge" && l.Type() != "macvlan" {
			continue // made by the container itself
		}
		if err := h.LinkDel(l); err != nil {
			return fmt.Errorf("remove interface %s: %w", l.Attrs().Name, err)
		}
	}
	for _, e := range s.Endpoints {
		link := have[e.Name]
		if link != nil {
			if err := p.plug(link, e); err != nil {
				return fmt.Errorf("connect %s: %w", e.Name, err)
			}
		} else {
			if link, err = p.connect(h, ns, e, c); err != nil {
				return fmt.Errorf("connect %s: %w", e.Name, err)
			}
		}
		if e.Addr6.IsValid() {
			if err := inNamespace(p.home, ns, func() error { return enableIPv6(e.Name) }); err != nil {
				return fmt.Errorf("enable IPv6 on %s: %w", e.Name, err)
			}
		}
		if err := setAddresses(h, link, e.Addr, e.Addr6); err != nil {
			return err
		}
		if link.Attrs().Flags&unix.IFF_UP == 0 {
			if err := h.LinkSetUp(link); err != nil {
				return fmt.Errorf("set %s up: %w", e.Name, err)
			}
		}
		if err := setOnLink(h, link, e); err != nil {
			return err
		}
		if err := setGateways(h, link, e); err != nil {
			return err
		}
	}
	return nil
}

// setOnLink routes a network's further subnets. A network never loses one while it is in use, so that none is taken away.
func setOnLink(h *netlink.Handle, link netlink.Link, e Endpoint) error {
	for _, p := range e.OnLink {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipnet(p), Scope: netlink.SCOPE_LINK}
		if p.Addr().Is4() {
			route.Src = e.Addr.Addr().AsSlice()
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s through %s: %w", p, e.Name, err)
		}
	}
	return nil
}

// setGateways makes the default routes those of the endpoint, if it has some.
func setGateways(h *netlink.Handle, link netlink.Link, e Endpoint) error {
	for _, via := range []netip.Addr{e.Gateway, e.Gateway6} {
		if !via.IsValid() {
			continue
		}
		if err := h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipnet(everywhere(via)), Gw: via.AsSlice()}); err != nil {
			return fmt.Errorf("set default route via %s: %w", via, err)
		}
	}
	return nil
}

// everywhere is the prefix of all addresses of a's family.
func everywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// connect makes the endpoint's interface. The far end of a pair is made where the bridge is; it goes when the sandbox goes.
func (p *Plane) connect(h *netlink.Handle, ns netns.NsHandle, e Endpoint, c *Config) (netlink.Link, error) {
	var err error
	switch {
	case e.Bridge != "":
		b := c.Bridges[e.Bridge]
		if b == nil {
			return nil, fmt.Errorf("no bridge %s", e.Bridge)
		}
		err = pair(p.node, ns, e, e.Bridge, mtuOr(b.MTU, defaultMTU))
	case e.Overlay != "":
		err = p.connectOverlay(ns, e)
	case e.Parent != "":
		err = p.connectParent(ns, e)
	default:
		err = h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: e.Name, HardwareAddr: mac(e.Addr.Addr()), TxQLen: -1}})
	}
	if err != nil {
		return nil, err
	}
	return h.LinkByName(e.Name)
}

// plug puts the far end of an interface that is adopted on its bridge, if someone has taken it off or down.
func (p *Plane) plug(link netlink.Link, e Endpoint) error {
	switch {
	case e.Bridge != "":
		return plugIn(p.node, link, e.Bridge)
	case e.Overlay != "":
		return p.look(OverlayNamespace(e.Overlay), func(far *netlink.Handle, _ netns.NsHandle) error { return plugIn(far, link, overlayBridge) })
	}
	return nil
}

func plugIn(far *netlink.Handle, link netlink.Link, bridge string) error {
	br, err := far.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	end, err := far.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return fmt.Errorf("find far end: %w", err)
	}
	if end.Attrs().MasterIndex != br.Attrs().Index {
		if err := errors.Join(far.LinkSetMasterByIndex(end, br.Attrs().Index), far.LinkSetHairpin(end, bridge != overlayBridge)); err != nil {
			return fmt.Errorf("put far end on bridge %s: %w", bridge, err)
		}
	}
	if end.Attrs().Flags&unix.IFF_UP != 0 {
		return nil
	}
	return far.LinkSetUp(end)
}

func (p *Plane) connectOverlay(ns netns.NsHandle, e Endpoint) error {
	far, err := netns.GetFromPath(p.path(OverlayNamespace(e.Overlay)))
	if err != nil {
		return fmt.Errorf("open overlay: %w", err)
	}
	defer far.Close()
	fh, err := netlink.NewHandleAt(far, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer fh.Close()
	br, err := fh.LinkByName(overlayBridge)
	if err != nil {
		return fmt.Errorf("find overlay's bridge: %w", err)
	}
	return pair(fh, ns, e, overlayBridge, br.Attrs().MTU)
}

// connectParent makes the endpoint a further interface behind one of the node's.
func (p *Plane) connectParent(ns netns.NsHandle, e Endpoint) error {
	parent, err := p.node.LinkByName(e.Parent)
	if err != nil {
		return fmt.Errorf("find %s: %w", e.Parent, err)
	}
	hw, err := parseMAC(e)
	if err != nil {
		return err
	}
	link := &netlink.Macvlan{Mode: netlink.MACVLAN_MODE_BRIDGE, LinkAttrs: netlink.LinkAttrs{
		Name: e.Name, ParentIndex: parent.Attrs().Index, Namespace: netlink.NsFd(int(ns)), HardwareAddr: hw, MTU: parent.Attrs().MTU, TxQLen: -1}}
	if err := p.node.LinkAdd(link); err != nil {
		return fmt.Errorf("create macvlan: %w", err)
	}
	return nil
}

// pair makes a veth pair with one end on a bridge of far and the other, named and addressed, in ns.
func pair(far *netlink.Handle, ns netns.NsHandle, e Endpoint, bridge string, mtu int) error {
	br, err := far.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	name, err := randomName()
	if err != nil {
		return err
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu, MasterIndex: br.Attrs().Index, Flags: 1, TxQLen: -1},
		PeerName: e.Name, PeerNamespace: netlink.NsFd(int(ns)), PeerMTU: uint32(mtu), PeerTxQLen: -1}
	if link.PeerHardwareAddr, err = parseMAC(e); err != nil {
		return err
	}
	if err := far.LinkAdd(link); err != nil {
		return fmt.Errorf("create pair: %w", err)
	}
	if e.Bridge != "" {
		// A container may be its own backend: the node then sends a packet back whence it came.
		if err := far.LinkSetHairpin(link, true); err != nil {
			return errors.Join(fmt.Errorf("set hairpin on %s: %w", name, err), far.LinkDel(link))
		}
	}
	if err := far.LinkSetUp(link); err != nil {
		return errors.Join(fmt.Errorf("set %s up: %w", name, err), far.LinkDel(link))
	}
	return nil
}

func randomName() (string, error) {
	var b [5]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return "veth" + hex.EncodeToString(b[:]), nil
}
