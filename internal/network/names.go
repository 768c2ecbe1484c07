package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// names is what is known on each network. It is a sum of what services, endpoints and sandboxes bring, each under a key of its own, so
// that any of them can change by itself.
type names struct {
	brought map[string][]naming
	known   map[string]*known // by network ID
}

// naming is one name of one address.
type naming struct {
	network string
	name    string
	addr    netip.Addr
	host    bool // the name is what the address is called, completed by that of the network
}

// known is one network's names, and which of them the zone has not yet been told.
type known struct {
	zone    *dns.Zone
	forward map[string]map[netip.Addr]int // how many bring it
	reverse map[netip.Addr][]string
	stale   map[string]bool
	strange map[netip.Addr]bool // of reverse
}

func newNames() *names { return &names{brought: map[string][]naming{}, known: map[string]*known{}} }

func (n *names) of(network string) *known {
	k := n.known[network]
	if k == nil {
		k = &known{zone: dns.NewZone(), forward: map[string]map[netip.Addr]int{}, reverse: map[netip.Addr][]string{},
			stale: map[string]bool{}, strange: map[netip.Addr]bool{}}
		n.known[network] = k
	}
	return k
}

// set replaces what is brought under the key.
func (n *names) set(key string, now []naming) {
	was := n.brought[key]
	if slices.Equal(was, now) {
		return
	}
	for _, f := range now {
		n.of(f.network).add(f, 1)
	}
	for _, f := range was {
		n.of(f.network).add(f, -1)
	}
	if len(now) == 0 {
		delete(n.brought, key)
	} else {
		n.brought[key] = now
	}
}

func (k *known) add(f naming, times int) {
	name := strings.ToLower(f.name)
	if name == "" || !f.addr.IsValid() {
		return
	}
	if f.host {
		k.strange[f.addr] = true
		if times > 0 {
			k.reverse[f.addr] = append(k.reverse[f.addr], f.name)
		} else if i := slices.Index(k.reverse[f.addr], f.name); i >= 0 {
			k.reverse[f.addr] = slices.Delete(k.reverse[f.addr], i, i+1)
		}
		if len(k.reverse[f.addr]) == 0 {
			delete(k.reverse, f.addr)
		}
		return
	}
	k.stale[name] = true
	addrs := k.forward[name]
	if addrs == nil {
		addrs = map[netip.Addr]int{}
		k.forward[name] = addrs
	}
	if addrs[f.addr] += times; addrs[f.addr] == 0 {
		delete(addrs, f.addr)
	}
	if len(addrs) == 0 {
		delete(k.forward, name)
	}
}

// update is what a zone is still to be told.
type update struct {
	zone    *dns.Zone
	names   map[string][]netip.Addr
	reverse map[netip.Addr]string
}

// updates is what the zones are still to be told; it is told but once. networks says what they are called.
func (n *names) updates() []update {
	var out []update
	for id, k := range n.known {
		if len(k.stale)+len(k.strange) == 0 {
			continue
		}
		u := update{k.zone, map[string][]netip.Addr{}, map[netip.Addr]string{}}
		for name := range k.stale {
			addrs := make([]netip.Addr, 0, len(k.forward[name]))
			for a := range k.forward[name] {
				addrs = append(addrs, a)
			}
			slices.SortFunc(addrs, netip.Addr.Compare)
			u.names[name] = addrs
		}
		for addr := range k.strange {
			u.reverse[addr] = ""
			if hosts := k.reverse[addr]; len(hosts) > 0 {
				u.reverse[addr] = hosts[len(hosts)-1]
			}
		}
		clear(k.stale)
		clear(k.strange)
		if out = append(out, u); len(k.forward)+len(k.reverse) == 0 {
			delete(n.known, id)
		}
	}
	return out
}

// serviceNames is the service's own name and aliases, and tasks.NAME.
func (d *directory) serviceNames(s shoal.ServiceEntry) []naming {
	var out []naming
	add := func(network shoal.ID, addr netip.Addr, names ...string) {
		for _, name := range names {
			out = append(out, naming{network: network, name: name, addr: addr})
		}
	}
	for network, vip := range s.VIPs {
		for _, a := range d.addrsOf(vip, s.VIPs6[network]) {
			add(network, a, s.Name)
			add(network, a, s.Aliases[network]...)
		}
	}
	for _, e := range d.tasks[s.ID] {
		if e.State != shoal.EndpointReady {
			continue
		}
		_, hasVIP := s.VIPs[e.NetworkID]
		for _, a := range d.addrsOf(e.Addr, e.Addr6) {
			add(e.NetworkID, a, "tasks."+s.Name)
			if !hasVIP {
				add(e.NetworkID, a, s.Name)
				add(e.NetworkID, a, s.Aliases[e.NetworkID]...)
			}
		}
	}
	return out
}

// endpointNames is what a task or container on a network is called.
func (d *directory) endpointNames(e shoal.Endpoint) []naming {
	var out []naming
	for _, a := range d.addrsOf(e.Addr, e.Addr6) {
		out = append(out, called(e.NetworkID, d.table.Networks[e.NetworkID].Spec.Name, a, e.Name, e.ContainerID, e.Aliases)...)
	}
	return out
}

// called is a container's names on a network.
func called(network, networkName string, addr netip.Addr, name, containerID string, aliases []string) []naming {
	out := []naming{{network: network, name: name, addr: addr}}
	if containerID != "" {
		out = append(out, naming{network: network, name: namespaceOf(containerID), addr: addr})
	}
	for _, alias := range aliases {
		out = append(out, naming{network: network, name: alias, addr: addr})
	}
	if name != "" {
		out = append(out, naming{network: network, name: name + "." + networkName, addr: addr, host: true})
	}
	return out
}

// boxNames is what a container of this node is called on its networks. On the default bridge nobody has a name.
func (d *directory) boxNames(b *box) []naming {
	var out []naming
	for _, e := range b.Endpoints {
		if e.hidden() || e.Info.Network == defaultBridge {
			continue
		}
		for _, a := range d.addrsOf(e.Info.Addr, e.Info.Addr6) {
			out = append(out, called(e.Info.NetworkID, e.Info.Network, a, b.Spec.Name, b.Spec.ContainerID, e.Aliases)...)
		}
	}
	return out
}

// recordsLocked is what every sandbox's resolver answers from.
func (n *Networks) recordsLocked() map[*dns.Resolver]*dns.Records {
	var upstreams []netip.AddrPort
	for _, a := range n.hostResolver().servers {
		upstreams = append(upstreams, netip.AddrPortFrom(a, 53))
	}
	out := map[*dns.Resolver]*dns.Records{}
	for _, b := range n.boxes {
		if b.resolver != nil {
			out[b.resolver] = n.recordsOf(b, upstreams)
		}
	}
	return out
}

// recordsOf is the zones of the box's networks: the network that was attached first decides.
func (n *Networks) recordsOf(b *box, upstreams []netip.AddrPort) *dns.Records {
	r := &dns.Records{Upstreams: upstreams}
	if len(b.Spec.DNS.Nameservers) > 0 {
		r.Upstreams = nil
		for _, s := range b.Spec.DNS.Nameservers {
			if a, err := netip.ParseAddr(s); err == nil {
				r.Upstreams = append(r.Upstreams, netip.AddrPortFrom(a, 53))
			}
		}
	}
	for _, e := range b.Endpoints {
		if !e.hidden() && (e.Overlay != "" || e.Bridge != "" || e.Parent != "") {
			r.Zones = append(r.Zones, n.names.of(e.Info.NetworkID).zone)
		}
	}
	return r
}
