package mesh

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Priorities of the routing rules that send replies back to the entry node of their connection.
const (
	priorityOthers   = 1000 // traffic that does not come from the gateway bridge goes on to the main table
	priorityUnmarked = 1001 // so does what belongs to no connection from another node
	priorityMarked   = 1002 // the rest goes to the table of its entry node
	priorityMain     = 32766
	// returnTables plus a peer's mark is the number of the routing table that leads to that peer.
	returnTables = 1 << 20
)

// changeTaskRoutes follows a change in the tasks of other nodes.
func (m *Mesh) changeTaskRoutes(index int, changes []pmap.Change[netip.Addr, netip.Addr]) error {
	for _, c := range changes {
		dst := rtnl.IPNet(rtnl.HostPrefix(c.Key))
		if !c.Has {
			err := m.links.RouteDel(&netlink.Route{LinkIndex: index, Dst: dst, Gw: c.Old.AsSlice()})
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", c.Key, err)
			}
		} else if err := m.links.RouteReplace(&netlink.Route{LinkIndex: index, Dst: dst, Gw: c.New.AsSlice()}); err != nil {
			return fmt.Errorf("route %s via %s: %w", c.Key, c.New, err)
		}
	}
	return nil
}

// routeKey is what there is one route for.
type routeKey struct {
	table int
	dst   string
}

// wantedRoutes is a route to every task of another node, by that node; and for every peer, in the peer's own table, a default route to it.
func wantedRoutes(index int, in *config.Ingress) map[routeKey]*netlink.Route {
	want := map[routeKey]*netlink.Route{}
	add := func(table int, dst netip.Prefix, nextHop netip.Addr) {
		// The next hop may be of another subnet than the node's address, since the network grows: hence on-link.
		want[routeKey{table, rtnl.IPNet(dst).String()}] = &netlink.Route{LinkIndex: index, Table: table, Dst: rtnl.IPNet(dst), Gw: nextHop.AsSlice(),
			Flags: int(netlink.FLAG_ONLINK)}
	}
	for task, node := range in.Tasks.All() {
		add(unix.RT_TABLE_MAIN, rtnl.HostPrefix(task), node)
	}
	for _, peer := range in.Peers {
		for _, nextHop := range []netip.Addr{peer.Addr, peer.Addr6} {
			if nextHop.IsValid() {
				add(returnTables+int(entryMark(peer.Addr)), rtnl.DefaultPrefix(nextHop), nextHop)
			}
		}
	}
	return want
}

// applyRoutes makes the routes through the device those that are wanted.
func (m *Mesh) applyRoutes(index int, in *config.Ingress) error {
	have, err := m.listRoutes(index)
	if err != nil {
		return fmt.Errorf("list ingress routes: %w", err)
	}
	want := wantedRoutes(index, in)
	for _, r := range have {
		nextHop, _ := netip.AddrFromSlice(r.Gw)
		dst := rtnl.IPNet(rtnl.DefaultPrefix(nextHop.Unmap())).String()
		if r.Dst != nil {
			dst = r.Dst.String()
		}
		k := routeKey{r.Table, dst}
		if w := want[k]; w != nil && w.Gw.Equal(r.Gw) {
			delete(want, k)
		} else if w == nil {
			if err := m.links.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", dst, err)
			}
		}
	}
	for k, r := range want {
		if err := m.links.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s via %s: %w", k.dst, r.Gw, err)
		}
	}
	return nil
}

// listRoutes is the routes of all tables through the device that have a next hop. (The kernel's own have none.)
func (m *Mesh) listRoutes(index int) ([]netlink.Route, error) {
	var out []netlink.Route
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := m.links.RouteListFiltered(f, &netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		out = append(out, slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Gw == nil })...)
	}
	return out, nil
}

// applyRoutingRules makes the routing rules those of the mesh; nil for none.
func (m *Mesh) applyRoutingRules(in *config.Ingress) error {
	err := m.applyFamilyRules(netlink.FAMILY_V4, in)
	if netns.HasIPv6() {
		err = errors.Join(err, m.applyFamilyRules(netlink.FAMILY_V6, in))
	}
	return err
}

func (m *Mesh) applyFamilyRules(family int, in *config.Ingress) error {
	want := wantedRules(family, in)
	gateway := shoal.GwbridgeName
	if in != nil {
		gateway = in.GatewayBridge
	}
	have, err := m.links.RuleList(family)
	if err != nil {
		return fmt.Errorf("list routing rules: %w", err)
	}
	for _, r := range have {
		if !ownRule(&r, gateway) {
			continue
		}
		k := keyOf(&r)
		if want[k] != nil {
			delete(want, k)
			continue
		}
		r.Family = family
		if err := m.links.RuleDel(&r); err != nil {
			return fmt.Errorf("remove routing rule %d: %w", r.Priority, err)
		}
	}
	for _, r := range want {
		if err := m.links.RuleAdd(r); err != nil {
			return fmt.Errorf("add routing rule %d: %w", r.Priority, err)
		}
	}
	return nil
}

// ruleKey is what there is one routing rule for.
type ruleKey struct {
	priority int
	iif      string
	mark     uint32
}

func keyOf(r *netlink.Rule) ruleKey { return ruleKey{r.Priority, r.IifName, r.Mark} }

func ownRule(r *netlink.Rule, gatewayBridge string) bool {
	return r.Priority >= priorityOthers && r.Priority <= priorityMarked && r.IifName == gatewayBridge
}

func wantedRules(family int, in *config.Ingress) map[ruleKey]*netlink.Rule {
	want := map[ruleKey]*netlink.Rule{}
	if in == nil {
		return want
	}
	mask := uint32(markMask)
	add := func(r *netlink.Rule) {
		r.Family, r.IifName = family, in.GatewayBridge
		want[keyOf(r)] = r
	}
	others := netlink.NewRule()
	others.Priority, others.Invert, others.Goto = priorityOthers, true, priorityMain
	add(others)
	unmarked := netlink.NewRule()
	unmarked.Priority, unmarked.Mask, unmarked.Goto = priorityUnmarked, &mask, priorityMain
	add(unmarked)
	for _, peer := range in.Peers {
		marked := netlink.NewRule()
		marked.Priority, marked.Mark, marked.Mask, marked.Table = priorityMarked, entryMark(peer.Addr), &mask, returnTables+int(entryMark(peer.Addr))
		add(marked)
	}
	return want
}
