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
	networks := p.Directory.Table().Networks
	route4, route6 := sb.Endpoints.DefaultRoutes()
	for _, e := range sb.Endpoints {
		if e.Overlay != "" && c.Overlays[e.Overlay] == nil {
			continue // the network is gone, or not yet known after a restart
		}
		d := dataplane.Endpoint{Name: e.Info.Interface, Bridge: e.Bridge, Overlay: e.Overlay, Parent: e.Parent, IPvlan: e.IPvlan, Addr: e.Info.Addr, MAC: p.macOf(e),
			Further: linkLocal(e.Info.LinkLocal), OnLink: otherSubnets(networks[shoal.NetworkID(e.Overlay)], e.Info.Addr)}
		if l := p.Local.Get(e.Info.NetworkID); l != nil && e.Parent != "" {
			d.MacvlanMode = l.MacvlanMode()
		}
		d.Sysctls, _ = shoal.EndpointSysctls(e.Info.DriverOpts, e.Info.Interface) // checked when it was asked for
		if p.IPv6 {
			d.Addr6 = e.Info.Addr6
		}
		if e.Bridge == "" && e.Overlay == "" && e.Parent == "" {
			d.Addr, d.Addr6 = hostPrefix(d.Addr), hostPrefix(d.Addr6)
		}
		if e == route4 {
			d.Gateway, d.ByDevice = e.Info.Gateway, e.DefaultDevice
		}
		if e == route6 && p.IPv6 {
			d.Gateway6, d.ByDevice6 = e.Info.Gateway6, e.DefaultDevice
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

// linkLocal is further addresses of an interface with the length of their prefix, as in Docker.
func linkLocal(addrs []netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		out = append(out, netip.PrefixFrom(a, map[bool]int{true: 16, false: 64}[a.Is4()]))
	}
	return out
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
