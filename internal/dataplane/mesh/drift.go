package mesh

import (
	"maps"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/vxlan"
)

// Drifted compares the kernel with what was applied. If others have changed it, it is forgotten. Unless thorough is set, routes are looked at only if
// one was removed since the last time.
func (m *Mesh) Drifted(thorough bool) bool {
	if m.applied == nil || m.intact(m.applied, thorough) {
		return false
	}
	m.Forget()
	return true
}

func (m *Mesh) intact(want *config.Ingress, thorough bool) bool {
	link, err := m.links.LinkByName(DeviceName)
	if err != nil || !rtnl.IsUp(link) || !rtnl.HasAddresses(m.links, link, want.Addr, want.Addr6) {
		return false
	}
	if !m.zones.intact() {
		return false
	}
	entries, err := vxlan.List(m.links, link.Attrs().Index)
	if err != nil || !maps.Equal(entries, remotes(want)) {
		return false
	}
	rules, err := m.links.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	count := 0
	for _, r := range rules {
		if ownRule(&r, want.GatewayBridge) {
			count++
		}
	}
	if count != len(wantedRules(netlink.FAMILY_V4, want)) {
		return false
	}
	removed := m.routeRemoved()
	return !removed && !thorough || m.routesIntact(link.Attrs().Index, want)
}

// routeRemoved tells whether a route of the node may have been removed since the last call. The first call starts to listen.
func (m *Mesh) routeRemoved() bool {
	if m.routes != nil {
		return m.routes.Removed()
	}
	if monitor, err := rtnl.MonitorRoutes(m.node); err == nil {
		m.routes = monitor
	}
	return true
}

// routesIntact counts the routes to tasks and peers.
func (m *Mesh) routesIntact(index int, want *config.Ingress) bool {
	have, err := m.listRoutes(index)
	return err == nil && len(have) == len(wantedRoutes(index, want))
}
