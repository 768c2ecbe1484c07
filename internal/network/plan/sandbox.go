package plan

import (
	"hash/fnv"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// planSandbox derives a container's interfaces and the virtual addresses that it can reach.
func (p *Planner) planSandbox(sb *sandbox.Sandbox, c *dataplane.Config) *dataplane.Sandbox {
	s := &dataplane.Sandbox{Seed: balancerSeed(sb.Spec.ContainerID), Services: map[string]dataplane.Services{}}
	defaultRoute, networks := sb.Endpoints.DefaultRoute(), p.Directory.Table().Networks
	for _, e := range sb.Endpoints {
		if e.Overlay != "" && c.Overlays[e.Overlay] == nil {
			continue // the network is gone, or not yet known after a restart
		}
		d := dataplane.Endpoint{Name: e.Info.Interface, Bridge: e.Bridge, Overlay: e.Overlay, Parent: e.Parent, Addr: e.Info.Addr, MAC: p.macOf(e),
			OnLink: otherSubnets(networks[shoal.NetworkID(e.Overlay)], e.Info.Addr)}
		if p.IPv6 {
			d.Addr6 = e.Info.Addr6
		}
		if e.Bridge == "" && e.Overlay == "" && e.Parent == "" {
			d.Addr, d.Addr6 = hostPrefix(d.Addr), hostPrefix(d.Addr6)
		}
		if e == defaultRoute {
			d.Gateway, d.Gateway6 = e.Info.Gateway, e.Info.Gateway6
		}
		s.Endpoints = append(s.Endpoints, d)
		if e.Overlay != "" {
			s.Services[e.Overlay] = p.Directory.Services(shoal.NetworkID(e.Overlay))
		}
	}
	if sb.Resolver != nil && sb.Endpoints.UseResolver() {
		s.DNSPortUDP, s.DNSPortTCP = sb.Resolver.Ports()
	}
	return s
}

// macOf is the endpoint's MAC. The zero MAC, for which the data plane derives one, stands for a record on disk that cannot be read.
func (p *Planner) macOf(e *sandbox.Endpoint) shoal.MAC {
	if err := e.Info.MAC.Err(); err != nil {
		p.Log.Warn("endpoint has no valid MAC, one is derived from its address", "interface", e.Info.Interface, "address", e.Info.Addr, "err", err)
		return shoal.MAC{}
	}
	return e.Info.MAC
}

// hostPrefix is the address as a /32 or /128.
func hostPrefix(p netip.Prefix) netip.Prefix {
	if !p.IsValid() {
		return p
	}
	return netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
}

// otherSubnets is the overlay's subnets of the address's family that do not contain it.
func otherSubnets(net shoal.Network, addr netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range net.IPAM {
		p := s.Subnet
		if p.IsValid() && p.Addr().Is4() == addr.Addr().Is4() && !p.Overlaps(addr) {
			out = append(out, p.Masked())
		}
	}
	return out
}

// balancerSeed is a different number for every container, so that their round-robin counters do not all start at the same backend.
func balancerSeed(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum32()
}

// publishedPorts is the ports that a container publishes on the node, with its addresses as backends. Only containers whose default
// route leads through a bridge can be reached.
func publishedPorts(sb *sandbox.Sandbox) []dataplane.Port {
	exit := sb.Endpoints.DefaultRoute()
	if exit == nil || exit.Bridge == "" {
		return nil
	}
	var out []dataplane.Port
	for i, p := range sb.Ports {
		port := dataplane.Port{Protocol: p.Protocol, Port: p.HostPort, HostIP: p.HostIP}
		everywhere := i < len(sb.Spec.Ports) && !sb.Spec.Ports[i].HostIP.IsValid()
		if everywhere || p.HostIP.Is4() {
			port.Backends = append(port.Backends, dataplane.Backend{Addr: exit.Info.Addr.Addr(), Port: p.Target})
		}
		if exit.Info.Addr6.IsValid() && (everywhere || p.HostIP.Is6()) {
			port.Backends = append(port.Backends, dataplane.Backend{Addr: exit.Info.Addr6.Addr(), Port: p.Target})
		}
		if len(port.Backends) > 0 { // without backends the reservation alone refuses connections
			out = append(out, port)
		}
	}
	return out
}
