package plan

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/local"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// publishedPorts is the ports that a container publishes on the node, with its addresses as backends, and those that are reached at its own addresses.
// Only containers whose default route leads through a bridge can be reached.
func (p *Planner) publishedPorts(sb *sandbox.Sandbox) (ports []dataplane.Port, direct []dataplane.DirectPort) {
	route4, route6 := sb.Endpoints.DefaultRoutes()
	exits := []exit{p.exitOf(route4, true), p.exitOf(route6, false)}
	for i, bound := range sb.Ports {
		port := dataplane.Port{Protocol: bound.Protocol, Port: bound.HostPort, HostIP: bound.HostIP}
		everywhere := i < len(sb.Spec.Ports) && !sb.Spec.Ports[i].HostIP.IsValid()
		for _, x := range exits {
			if !x.addr.IsValid() || !everywhere && x.addr.Is4() != bound.HostIP.Is4() {
				continue
			}
			if !x.routed {
				port.Backends = append(port.Backends, dataplane.Backend{Addr: x.addr, Port: bound.Target})
			}
			for _, from := range x.from {
				direct = append(direct, dataplane.DirectPort{Bridge: x.bridge, From: from, Addr: x.addr, Protocol: bound.Protocol, Port: bound.Target})
			}
		}
		if len(port.Backends) > 0 { // without backends the reservation alone refuses connections
			ports = append(ports, port)
		}
	}
	return ports, direct
}

// exit is what a container's default route of one family leads through.
type exit struct {
	bridge string
	addr   netip.Addr // the container's own; invalid if it cannot be reached
	routed bool       // nothing is translated
	from   []string   // interfaces from which its own address is reached; "" is any
}

func (p *Planner) exitOf(e *sandbox.Endpoint, is4 bool) exit {
	if e == nil || e.Bridge == "" {
		return exit{}
	}
	x := exit{bridge: e.Bridge, addr: e.Info.Addr6.Addr()}
	if is4 {
		x.addr = e.Info.Addr.Addr()
	}
	l := p.Local.Get(e.Info.NetworkID)
	if l == nil {
		return x
	}
	x.from = l.Trusted()
	if x.routed = routed(l, is4); x.routed || p.DirectRouting {
		x.from = []string{""}
	}
	return x
}

func routed(l *local.Network, is4 bool) bool {
	mode, mode6 := l.Modes()
	if !is4 {
		mode = mode6
	}
	return mode == shoal.GatewayRouted
}
