package network

import (
	"fmt"
	"net/netip"
	"reflect"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// dnsRecords is the DNS records of each network. Services, endpoints and sandboxes each contribute records under a key of their own, so
// that each can change by itself.
type dnsRecords struct {
	bySource map[string]map[string]dns.Entry // by key, then network ID
	zones    map[string]*zoneState           // by network ID
}

// zoneState is one network's zone, and the changes that are not yet in it.
type zoneState struct {
	zone          *dns.Zone
	entries       int
	pendingPut    map[string]dns.Entry
	pendingDelete map[string]bool
}

func newDNSRecords() *dnsRecords {
	return &dnsRecords{bySource: map[string]map[string]dns.Entry{}, zones: map[string]*zoneState{}}
}

func (n *dnsRecords) zone(network string) *zoneState {
	z := n.zones[network]
	if z == nil {
		z = &zoneState{zone: dns.NewZone(), pendingPut: map[string]dns.Entry{}, pendingDelete: map[string]bool{}}
		n.zones[network] = z
	}
	return z
}

// set replaces the records of the source with the key; nil removes them.
func (n *dnsRecords) set(key string, now map[string]dns.Entry) {
	was := n.bySource[key]
	for network := range was {
		if _, ok := now[network]; !ok {
			z := n.zone(network)
			z.entries--
			delete(z.pendingPut, key)
			z.pendingDelete[key] = true
		}
	}
	for network, e := range now {
		old, had := was[network]
		if had && reflect.DeepEqual(old, e) {
			continue
		}
		z := n.zone(network)
		if !had {
			z.entries++
		}
		delete(z.pendingDelete, key)
		z.pendingPut[key] = e
	}
	if len(now) == 0 {
		delete(n.bySource, key)
	} else {
		n.bySource[key] = now
	}
}

// zoneUpdate is a change that is not yet in its zone.
type zoneUpdate struct {
	zone *dns.Zone
	put  map[string]dns.Entry
	del  map[string]bool
}

// pendingUpdates returns the changes since the last call. The caller puts them into the zones.
func (n *dnsRecords) pendingUpdates() []zoneUpdate {
	var out []zoneUpdate
	for id, z := range n.zones {
		if len(z.pendingPut)+len(z.pendingDelete) == 0 {
			continue
		}
		out = append(out, zoneUpdate{z.zone, z.pendingPut, z.pendingDelete})
		z.pendingPut, z.pendingDelete = map[string]dns.Entry{}, map[string]bool{}
		if z.entries == 0 {
			delete(n.zones, id)
		}
	}
	return out
}

// serviceRecords is what a service with virtual addresses is called, by network.
func (d *directory) serviceRecords(s shoal.ServiceEntry) map[string]dns.Entry {
	out := map[string]dns.Entry{}
	for network := range s.VIPs {
		out[string(network)] = dns.Entry{Names: append([]string{s.Name}, s.Aliases[network]...), Addrs: d.addrsOf(s.VIPs[network], s.VIPs6[network]),
			Stack: s.Stack, Ports: portsOf(s)}
	}
	return out
}

// endpointRecords is what a task or an attached container is called; s is the zero value for what belongs to no service. A task
// stands for its service when it is ready, and for its slot until it is on its way out.
func (d *directory) endpointRecords(e shoal.Endpoint, s shoal.ServiceEntry) map[string]dns.Entry {
	out := dns.Entry{Names: []string{e.Name}, Addrs: d.addrsOf(e.Addr, e.Addr6), Reverse: e.Name != "", Stack: s.Stack, Ports: portsOf(s)}
	if e.ContainerID != "" {
		out.Names = append(out.Names, namespaceOf(e.ContainerID))
	}
	if e.ServiceID == "" {
		out.Names = append(out.Names, e.Aliases...)
	}
	_, hasVIP := s.VIPs[e.NetworkID]
	for _, name := range append([]string{s.Name}, s.Aliases[e.NetworkID]...) {
		if name == "" {
			continue // it has no service, or the table has the task before its service
		}
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
	return map[string]dns.Entry{string(e.NetworkID): out}
}

func portsOf(s shoal.ServiceEntry) []shoal.Port {
	var out []shoal.Port
	for _, p := range s.Ports {
		out = append(out, p.Port)
	}
	return out
}

// sandboxRecords is what a container of this node is called on its networks, before any table tells of it. On the default bridge nobody
// has a name.
func sandboxRecords(sb *containerSandbox) map[string]dns.Entry {
	out := map[string]dns.Entry{}
	for _, e := range sb.Endpoints {
		if e.onGatewayBridge() || e.Info.Network == defaultBridge {
			continue
		}
		entry := dns.Entry{Names: []string{sb.Spec.Name, namespaceOf(sb.Spec.ContainerID)}, Addrs: addrsOf(e.Info.Addr, e.Info.Addr6), Reverse: sb.Spec.Name != ""}
		if sb.Spec.ServiceID == "" {
			entry.Names = append(entry.Names, e.Aliases...) // those of a task are its service's
		}
		out[string(e.Info.NetworkID)] = entry
	}
	return out
}

// scopesLocked is what every sandbox's resolver answers from.
func (n *Networks) scopesLocked() map[*dns.Resolver]*dns.Scope {
	var upstreams []netip.AddrPort
	for _, a := range n.hostResolver().servers {
		upstreams = append(upstreams, netip.AddrPortFrom(a, 53))
	}
	out := map[*dns.Resolver]*dns.Scope{}
	for _, sb := range n.sandboxes {
		if sb.resolver != nil {
			out[sb.resolver] = n.scopeLocked(sb, upstreams)
		}
	}
	return out
}

// scopeLocked is the zones of the sandbox's networks: the network that was attached first decides.
func (n *Networks) scopeLocked(sb *containerSandbox, upstreams []netip.AddrPort) *dns.Scope {
	s := &dns.Scope{Stack: n.table.Services[sb.Spec.ServiceID].Stack, Upstreams: upstreams}
	if len(sb.Spec.DNS.Nameservers) > 0 {
		s.Upstreams = nil
		for _, a := range sb.Spec.DNS.Nameservers {
			s.Upstreams = append(s.Upstreams, netip.AddrPortFrom(a, 53))
		}
	}
	for _, e := range sb.Endpoints {
		if e.hasServiceDiscovery() {
			zone := n.records.zone(string(e.Info.NetworkID)).zone
			zone.Describe(e.Info.Network, n.prefixesLocked(e))
			s.Zones = append(s.Zones, zone)
		}
	}
	return s
}

// hasServiceDiscovery tells whether containers find each other by name on the endpoint's network.
func (e *endpoint) hasServiceDiscovery() bool {
	return !e.onGatewayBridge() && e.Info.Network != defaultBridge && (e.Overlay != "" || e.Bridge != "" || e.Parent != "")
}

// prefixesLocked is the subnets of an endpoint's network.
func (n *Networks) prefixesLocked(e *endpoint) []netip.Prefix {
	var subnets []shoal.Subnet
	if l := n.localNetworks[e.Info.NetworkID]; l != nil {
		subnets = l.IPAM
	} else if net, ok := n.table.Networks[shoal.NetworkID(e.Overlay)]; ok {
		subnets = net.IPAM
	} else if e.Network != nil {
		subnets = e.Network.IPAM
	}
	var out []netip.Prefix
	for _, s := range subnets {
		if s.Subnet.IsValid() {
			out = append(out, s.Subnet)
		}
	}
	return out
}
