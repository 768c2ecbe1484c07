package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	// Preferences of the rules that send replies back to the node by which their connection came.
	prefOthers   = 1000 // traffic that does not come from the gateway bridge goes to the main table
	prefUnmarked = 1001
	prefMarked   = 1002
	prefMain     = 32766
	// returnTables is added to a peer's mark to make its table.
	returnTables = 1 << 20
)

func (p *Plane) applyIngress(in *Ingress) error {
	was := p.applied.ingress
	if p.looked && was.same(in) && (in == nil || was.Tasks == in.Tasks) {
		return nil
	}
	p.applied.ingress = nil
	if in == nil {
		return errors.Join(p.ingressRules(nil), p.removeIngress())
	}
	if err := p.makeIngress(in, was); err != nil {
		return err
	}
	p.applied.ingress = in
	return nil
}

func (p *Plane) makeIngress(in, was *Ingress) error {
	if was != nil && was.same(in) {
		link, err := p.node.LinkByName(ingressDevice)
		if err != nil {
			return fmt.Errorf("find %s: %w", ingressDevice, err)
		}
		return p.rerouteTasks(link.Attrs().Index, pmap.Changes(was.Tasks, in.Tasks))
	}
	link, err := p.ingressLink(in)
	if err != nil {
		return err
	}
	if err := programAll(p.node, link, pmap.Of(in.remotes())); err != nil {
		return err
	}
	if err := p.ingressRoutes(link, in); err != nil {
		return err
	}
	return p.ingressRules(in)
}

// same tells that they differ at most in the tasks of other nodes.
func (in *Ingress) same(other *Ingress) bool {
	if in == nil || other == nil {
		return in == other
	}
	a, b := *in, *other
	a.Tasks, b.Tasks = Vias{}, Vias{}
	return reflect.DeepEqual(a, b)
}

// rerouteTasks follows a change in the tasks of other nodes.
func (p *Plane) rerouteTasks(index int, changes []pmap.Change[netip.Addr, netip.Addr]) error {
	for _, c := range changes {
		dst := ipnet(netip.PrefixFrom(c.Key, c.Key.BitLen()))
		if !c.Has {
			err := p.node.RouteDel(&netlink.Route{LinkIndex: index, Dst: dst, Gw: c.Old.AsSlice()})
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", c.Key, err)
			}
		} else if err := p.node.RouteReplace(&netlink.Route{LinkIndex: index, Dst: dst, Gw: c.New.AsSlice()}); err != nil {
			return fmt.Errorf("route %s via %s: %w", c.Key, c.New, err)
		}
	}
	return nil
}

func (in *Ingress) remotes() map[netip.Addr]Remote {
	out := map[netip.Addr]Remote{}
	for _, peer := range in.Peers {
		r := Remote{MAC: MAC(peer.Addr), VTEP: peer.VTEP}
		out[peer.Addr] = r
		if peer.Addr6.IsValid() {
			out[peer.Addr6] = r
		}
	}
	return out
}

func (p *Plane) removeIngress() error {
	link, err := p.node.LinkByName(ingressDevice)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil
	}
	if err == nil {
		err = p.node.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", ingressDevice, err)
	}
	return nil
}

func (p *Plane) ingressLink(in *Ingress) (netlink.Link, error) {
	link, err := p.node.LinkByName(ingressDevice)
	if err == nil {
		have, ok := link.(*netlink.Vxlan)
		if !ok || have.VxlanId != int(in.VNI) || have.Port != int(in.Port) || !have.SrcAddr.Equal(net.IP(in.Local.AsSlice())) ||
			have.HardwareAddr.String() != MAC(in.Addr.Addr()) {
			if err := p.removeIngress(); err != nil {
				return nil, err
			}
			err = unix.ENODEV
		}
		if err != nil || !ok {
			link = nil
		}
	}
	if err != nil || link == nil {
		mtu := mtuOr(in.MTU, p.PathMTU(in.Local)-tunnelOverhead)
		err = p.node.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: ingressDevice, MTU: mtu, HardwareAddr: mac(in.Addr.Addr()), Alias: ownAlias, TxQLen: -1},
			VxlanId: int(in.VNI), SrcAddr: in.Local.AsSlice(), Port: int(in.Port), Proxy: true, Learning: false, UDPCSum: true})
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", ingressDevice, err)
		}
		if link, err = p.node.LinkByName(ingressDevice); err != nil {
			return nil, fmt.Errorf("find %s: %w", ingressDevice, err)
		}
	}
	if in.Addr6.IsValid() {
		if err := p.InNode(func() error { return enableIPv6(ingressDevice) }); err != nil {
			return nil, fmt.Errorf("enable IPv6 on %s: %w", ingressDevice, err)
		}
	}
	if err := setAddresses(p.node, link, in.Addr, in.Addr6); err != nil {
		return nil, err
	}
	if err := p.node.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", ingressDevice, err)
	}
	return link, p.InNode(func() error {
		// Packets of clients arrive here that the node would itself reach by another interface.
		return errors.Join(sysctl("net/ipv4/conf/"+ingressDevice+"/rp_filter", "2"),
			sysctl("net/ipv4/conf/"+ingressDevice+"/route_localnet", "1"))
	})
}

// ingressRoutes sends every remote task's ingress address to the node that hosts it, and gives every peer the table that leads
// replies back to it.
func (p *Plane) ingressRoutes(link netlink.Link, in *Ingress) error {
	index := link.Attrs().Index
	have, err := p.routesVia(index)
	if err != nil {
		return fmt.Errorf("list ingress routes: %w", err)
	}
	type key struct {
		table int
		dst   string
	}
	want := map[key]*netlink.Route{}
	add := func(table int, dst netip.Prefix, via netip.Addr) {
		// The node may have its address from another subnet than this one: the network grows.
		want[key{table, ipnet(dst).String()}] = &netlink.Route{LinkIndex: index, Table: table, Dst: ipnet(dst), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	}
	for task, node := range in.Tasks.All() {
		add(unix.RT_TABLE_MAIN, netip.PrefixFrom(task, task.BitLen()), node)
	}
	for _, peer := range in.Peers {
		for _, via := range []netip.Addr{peer.Addr, peer.Addr6} {
			if via.IsValid() {
				add(returnTables+int(peerMark(peer.Addr)), everywhere(via), via)
			}
		}
	}
	for _, r := range have {
		via, _ := netip.AddrFromSlice(r.Gw)
		dst := ipnet(everywhere(via.Unmap())).String()
		if r.Dst != nil {
			dst = r.Dst.String()
		}
		k := key{r.Table, dst}
		if w := want[k]; w != nil && w.Gw.Equal(r.Gw) {
			delete(want, k)
		} else if w == nil {
			if err := p.node.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", dst, err)
			}
		}
	}
	for k, r := range want {
		if err := p.node.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s via %s: %w", k.dst, r.Gw, err)
		}
	}
	return nil
}

// routesVia is the routes by other nodes through the interface. (The kernel's own have no gateway.)
func (p *Plane) routesVia(device int) ([]netlink.Route, error) {
	var out []netlink.Route
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := p.node.RouteListFiltered(f, &netlink.Route{LinkIndex: device, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		out = append(out, slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Gw == nil })...)
	}
	return out, nil
}

func (p *Plane) ingressRules(in *Ingress) error {
	err := p.ingressRulesOf(netlink.FAMILY_V4, in)
	if IPv6() {
		err = errors.Join(err, p.ingressRulesOf(netlink.FAMILY_V6, in))
	}
	return err
}

func (p *Plane) ingressRulesOf(family int, in *Ingress) error {
	mask := uint32(markMask)
	want := map[string]*netlink.Rule{}
	add := func(r *netlink.Rule) {
		r.Family = family
		want[ruleKey(r)] = r
	}
	if in != nil {
		others := netlink.NewRule()
		others.Priority, others.IifName, others.Invert, others.Goto = prefOthers, in.Gwbridge, true, prefMain
		add(others)
		unmarked := netlink.NewRule()
		unmarked.Priority, unmarked.IifName, unmarked.Mask, unmarked.Goto = prefUnmarked, in.Gwbridge, &mask, prefMain
		add(unmarked)
		for _, peer := range in.Peers {
			r := netlink.NewRule()
			r.Priority, r.IifName, r.Mark, r.Mask, r.Table = prefMarked, in.Gwbridge, peerMark(peer.Addr), &mask, returnTables+int(peerMark(peer.Addr))
			add(r)
		}
	}
	have, err := p.node.RuleList(family)
	if err != nil {
		return fmt.Errorf("list routing rules: %w", err)
	}
	for _, r := range have {
		if r.Priority < prefOthers || r.Priority > prefMarked || r.IifName != shoal.GwbridgeName {
			continue
		}
		k := ruleKey(&r)
		if want[k] != nil {
			delete(want, k)
			continue
		}
		r.Family = family
		if err := p.node.RuleDel(&r); err != nil {
			return fmt.Errorf("remove routing rule %d: %w", r.Priority, err)
		}
	}
	for _, r := range want {
		if err := p.node.RuleAdd(r); err != nil {
			return fmt.Errorf("add routing rule %d: %w", r.Priority, err)
		}
	}
	return nil
}

func ruleKey(r *netlink.Rule) string {
	return fmt.Sprint(r.Priority, " ", r.IifName, " ", r.Mark)
}
