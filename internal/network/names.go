package network

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// names collects what is known on one network.
type names struct {
	forward map[string][]netip.Addr
	reverse map[netip.Addr]string
}

func newNames() *names {
	return &names{forward: map[string][]netip.Addr{}, reverse: map[netip.Addr]string{}}
}

func (k *names) add(name string, addr netip.Addr) {
	name = strings.ToLower(name)
	if name != "" && addr.IsValid() && !slices.Contains(k.forward[name], addr) {
		k.forward[name] = append(k.forward[name], addr)
	}
}

// namesLocked is the records of every sandbox's resolver.
func (n *Networks) namesLocked() map[*dns.Resolver]*dns.Records {
	known := map[string]*names{}
	for id := range n.clusterNetworksLocked() {
		known[id] = newNames()
	}
	for _, l := range n.locals {
		known[l.ID] = newNames()
	}
	n.serviceNamesLocked(known)
	n.endpointNamesLocked(known)
	var upstreams []netip.AddrPort
	for _, a := range n.hostResolver().servers {
		upstreams = append(upstreams, netip.AddrPortFrom(a, 53))
	}
	out := map[*dns.Resolver]*dns.Records{}
	for _, b := range n.boxes {
		if b.resolver != nil {
			out[b.resolver] = recordsOf(b, known, upstreams)
		}
	}
	return out
}

func (n *Networks) serviceNamesLocked(known map[string]*names) {
	for id, s := range n.table.Services {
		for _, e := range n.tasks[id] {
			k := known[e.NetworkID]
			if k == nil || e.State != shoal.EndpointReady {
				continue
			}
			k.add("tasks."+s.Name, e.Addr.Addr())
			if _, hasVIP := s.VIPs[e.NetworkID]; !hasVIP {
				k.add(s.Name, e.Addr.Addr())
				for _, alias := range s.Aliases[e.NetworkID] {
					k.add(alias, e.Addr.Addr())
				}
			}
		}
		for network, vip := range s.VIPs {
			if k := known[network]; k != nil {
				k.add(s.Name, vip.Addr())
				for _, alias := range s.Aliases[network] {
					k.add(alias, vip.Addr())
				}
			}
		}
	}
}

func (n *Networks) endpointNamesLocked(known map[string]*names) {
	for _, e := range n.table.Endpoints {
		k := known[e.NetworkID]
		if k == nil || !e.Addr.IsValid() {
			continue
		}
		addr := e.Addr.Addr()
		k.add(e.Name, addr)
		if e.ContainerID != "" {
			k.add(namespaceOf(e.ContainerID), addr)
		}
		for _, alias := range e.Aliases {
			k.add(alias, addr)
		}
		if e.Name == "" {
			continue
		}
		k.reverse[addr] = e.Name + "." + n.table.Networks[e.NetworkID].Spec.Name
	}
	for id, b := range n.boxes {
		for _, e := range b.Endpoints {
			k := known[e.Info.NetworkID]
			if k == nil || e.hidden() || e.Info.Network == defaultBridge {
				continue
			}
			addr := e.Info.Addr.Addr()
			k.add(b.Spec.Name, addr)
			k.add(namespaceOf(id), addr)
			for _, alias := range e.Aliases {
				k.add(alias, addr)
			}
			k.reverse[addr] = b.Spec.Name + "." + e.Info.Network
		}
	}
}

func recordsOf(b *box, known map[string]*names, upstreams []netip.AddrPort) *dns.Records {
	r := &dns.Records{Names: map[string][]netip.Addr{}, Reverse: map[netip.Addr]string{}, Upstreams: upstreams}
	if len(b.Spec.DNS.Nameservers) > 0 {
		r.Upstreams = nil
		for _, s := range b.Spec.DNS.Nameservers {
			if a, err := netip.ParseAddr(s); err == nil {
				r.Upstreams = append(r.Upstreams, netip.AddrPortFrom(a, 53))
			}
		}
	}
	shown := slices.DeleteFunc(slices.Clone(b.Endpoints), func(e *endpoint) bool {
		return e.hidden() || known[e.Info.NetworkID] == nil || e.Overlay == "" && e.Bridge == "" && e.Parent == ""
	})
	if len(shown) == 1 { // most have one: they share its maps
		r.Names, r.Reverse = known[shown[0].Info.NetworkID].forward, known[shown[0].Info.NetworkID].reverse
		return r
	}
	for _, e := range shown {
		k := known[e.Info.NetworkID]
		for name, addrs := range k.forward {
			// The network that was attached first decides.
			if r.Names[name] == nil {
				r.Names[name] = addrs
			}
		}
		maps.Copy(r.Reverse, k.reverse)
	}
	return r
}
