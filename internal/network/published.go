package network

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// modesLocked is how the sandbox is reached from outside by each family; empty where it is not.
func (n *Networks) modesLocked(sb *sandbox.Sandbox) (mode4, mode6 shoal.GatewayMode) {
	route4, route6 := sb.Endpoints.DefaultRoutes()
	return n.modeLocked(route4, true), n.modeLocked(route6, false)
}

func (n *Networks) modeLocked(e *sandbox.Endpoint, is4 bool) shoal.GatewayMode {
	if e == nil || e.Bridge == "" {
		return ""
	}
	l := n.local.Get(e.Info.NetworkID)
	if l == nil {
		return shoal.GatewayNAT
	}
	mode, mode6 := l.Modes()
	if !is4 {
		mode = mode6
	}
	if mode == "" {
		mode = shoal.GatewayNAT
	}
	return mode
}

// translatesLocked tells whether the sandbox's published ports take ports of the node. They do not if all its traffic is routed.
func (n *Networks) translatesLocked(sb *sandbox.Sandbox) bool {
	mode4, mode6 := n.modesLocked(sb)
	routed := mode4 == shoal.GatewayRouted || mode6 == shoal.GatewayRouted
	return !routed || mode4 != "" && mode4 != shoal.GatewayRouted || mode6 != "" && mode6 != shoal.GatewayRouted
}

// shownPortsLocked is the published ports as users see them: one that names no address of the node is listed for each family that it answers by. Those that
// are reached at the container's own address have no port of the node.
func (n *Networks) shownPortsLocked(sb *sandbox.Sandbox) []shoal.PortBinding {
	mode4, mode6 := n.modesLocked(sb)
	var out []shoal.PortBinding
	for i, p := range sb.Ports {
		everywhere := i < len(sb.Spec.Ports) && !sb.Spec.Ports[i].HostIP.IsValid() && p.HostIP.IsUnspecified()
		if !everywhere {
			out = append(out, p)
			continue
		}
		if mode4 != "" || mode6 == "" {
			out = append(out, shownPort(p, netip.IPv4Unspecified(), mode4))
		}
		if mode6 != "" {
			out = append(out, shownPort(p, netip.IPv6Unspecified(), mode6))
		}
	}
	return out
}

func shownPort(p shoal.PortBinding, at netip.Addr, mode shoal.GatewayMode) shoal.PortBinding {
	if p.HostIP = at; mode == shoal.GatewayRouted {
		p.HostPort = 0
	}
	return p
}
