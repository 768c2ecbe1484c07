package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// naming is what resolvers shall know: the contents of the networks' zones, and which of them each sandbox sees.
type naming struct {
	zones  map[*dns.Zone]dns.Contents
	scopes map[*dns.Resolver]*dns.Scope
}

// publish makes it so.
func (k naming) publish() {
	for zone, contents := range k.zones {
		zone.Set(contents)
	}
	for resolver, scope := range k.scopes {
		resolver.Set(scope)
	}
}

// namesLocked derives all names anew.
func (n *Networks) namesLocked() naming {
	known := map[string]dns.Contents{}
	for id, net := range n.clusterNetworksLocked() {
		known[id] = contentsOf(net)
	}
	for _, l := range n.locals {
		known[l.ID] = contentsOf(l.Network)
	}
	for id := range n.zones {
		if _, ok := known[id]; !ok {
			delete(n.zones, id)
		}
	}
	for id := range known {
		if n.zones[id] == nil {
			n.zones[id] = dns.NewZone()
		}
	}
	n.tableNamesLocked(known)
	n.boxNamesLocked(known)
	out := naming{zones: map[*dns.Zone]dns.Contents{}, scopes: map[*dns.Resolver]*dns.Scope{}}
	for id, contents := range known {
		out.zones[n.zones[id]] = contents
	}
	var upstreams []netip.AddrPort
	for _, a := range n.hostResolver().servers {
		upstreams = append(upstreams, netip.AddrPortFrom(a, 53))
	}
	for _, b := range n.boxes {
		if b.resolver != nil {
			out.scopes[b.resolver] = n.scopeLocked(b, upstreams)
		}
	}
	return out
}

func contentsOf(net shoal.Network) dns.Contents {
	c := dns.Contents{Network: net.Spec.Name, Entries: map[string]dns.Entry{}}
	for _, s := range net.IPAM {
		if p, err := netip.ParsePrefix(s.Subnet); err == nil {
			c.Subnets = append(c.Subnets, p)
		}
	}
	return c
}

func (n *Networks) tableNamesLocked(known map[string]dns.Contents) {
	for id, s := range n.table.Services {
		for network := range s.VIPs {
			if c, ok := known[network]; ok {
				c.Entries["service/"+id] = serviceNames(s, network)
			}
		}
	}
	for key, e := range n.table.Endpoints {
		if c, ok := known[e.NetworkID]; ok {
			c.Entries["endpoint/"+key] = endpointNames(e, n.table.Services[e.ServiceID])
		}
	}
}

// serviceNames is what a service with virtual addresses is called on a network.
func serviceNames(s shoal.ServiceEntry, network shoal.ID) dns.Entry {
	return dns.Entry{Names: append([]string{s.Name}, s.Aliases[network]...), Addrs: valid(s.VIPs[network].Addr(), s.VIPs6[network].Addr()),
		Stack: s.Stack, Ports: portsOf(s)}
}

// endpointNames is what a task or an attached container is called; s is the zero value for what belongs to no service. A task
// stands for its service when it is ready, and for its slot until it is on its way out.
func endpointNames(e shoal.Endpoint, s shoal.ServiceEntry) dns.Entry {
	out := dns.Entry{Names: []string{e.Name}, Addrs: valid(e.Addr.Addr(), e.Addr6.Addr()), Reverse: e.Name != "", Stack: s.Stack, Ports: portsOf(s)}
	if e.ContainerID != "" {
		out.Names = append(out.Names, namespaceOf(e.ContainerID))
	}
	if e.ServiceID == "" {
		out.Names = append(out.Names, e.Aliases...)
		return out
	}
	if s.Name == "" {
		return out // the table has the task before its service
	}
	_, hasVIP := s.VIPs[e.NetworkID]
	for _, name := range append([]string{s.Name}, s.Aliases[e.NetworkID]...) {
		if e.State == shoal.EndpointReady {
			out.Names = append(out.Names, "tasks."+name)
			if !hasVIP {
				out.Names = append(out.Names, name)
			}
		}
		if e.State != shoal.EndpointDraining && e.Slot > 0 {
			out.Names = append(out.Names, fmt.Sprintf("%d.%s", e.Slot, name))
		}
	}
	return out
}

func valid(addrs ...netip.Addr) []netip.Addr {
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() })
}

func portsOf(s shoal.ServiceEntry) []shoal.Port {
	var out []shoal.Port
	for _, p := range s.Ports {
		out = append(out, p.Port)
	}
	return out
}

// boxNamesLocked enters this node's containers, which have their names before any table tells of them.
func (n *Networks) boxNamesLocked(known map[string]dns.Contents) {
	for id, b := range n.boxes {
		for _, e := range b.Endpoints {
			c, ok := known[e.Info.NetworkID]
			if !ok || e.hidden() || e.Info.Network == defaultBridge {
				continue
			}
			entry := dns.Entry{Names: []string{b.Spec.Name, namespaceOf(id)}, Addrs: valid(e.Info.Addr.Addr(), e.Info.Addr6.Addr()), Reverse: b.Spec.Name != ""}
			if b.Spec.ServiceID == "" {
				entry.Names = append(entry.Names, e.Aliases...) // those of a task are its service's
			}
			c.Entries["container/"+id] = entry
		}
	}
}

// scopeLocked is what a sandbox sees of the names.
func (n *Networks) scopeLocked(b *box, upstreams []netip.AddrPort) *dns.Scope {
	s := &dns.Scope{Stack: n.table.Services[b.Spec.ServiceID].Stack, Upstreams: upstreams}
	if len(b.Spec.DNS.Nameservers) > 0 {
		s.Upstreams = nil
		for _, text := range b.Spec.DNS.Nameservers {
			if a, err := netip.ParseAddr(text); err == nil {
				s.Upstreams = append(s.Upstreams, netip.AddrPortFrom(a, 53))
			}
		}
	}
	for _, e := range b.Endpoints {
		zone := n.zones[e.Info.NetworkID]
		if zone != nil && !e.hidden() && e.Info.Network != defaultBridge && (e.Overlay != "" || e.Bridge != "" || e.Parent != "") {
			s.Zones = append(s.Zones, zone)
		}
	}
	return s
}
