package names

import (
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
)

// dnsPort is where name servers answer.
const dnsPort = 53

// Scope is what a sandbox's resolver answers from: the zones of its networks, of which the network that was attached first decides, and the name
// servers that it passes other questions on to. stack is that of the container's service, servers are the host's, and subnets returns those of
// an endpoint's network.
func (r *Records) Scope(sb *sandbox.Sandbox, stack string, servers []netip.Addr, subnets func(*sandbox.Endpoint) []netip.Prefix) *dns.Scope {
	if len(sb.Spec.DNS.Nameservers) > 0 {
		servers = sb.Spec.DNS.Nameservers
	}
	s := &dns.Scope{Stack: stack}
	for _, a := range servers {
		s.Upstreams = append(s.Upstreams, netip.AddrPortFrom(a, dnsPort))
	}
	for _, e := range sb.Endpoints {
		if e.HasServiceDiscovery() {
			zone := r.zone(string(e.Info.NetworkID)).Zone
			zone.Describe(e.Info.Network, subnets(e))
			s.Zones = append(s.Zones, zone)
			if links := linksOf(e.Info.Links); len(links) > 0 {
				s.Links = append(s.Links, dns.Links{Zone: zone, Names: links})
			}
		}
	}
	return s
}

// linksOf reads "container:alias", or "container" alone, which is the alias too. It returns the containers by their aliases.
func linksOf(texts []string) map[string]string {
	out := map[string]string{}
	for _, text := range texts {
		target, alias, ok := strings.Cut(strings.TrimPrefix(text, "/"), ":")
		if !ok {
			alias = target
		}
		out[strings.ToLower(alias)] = strings.ToLower(target)
	}
	return out
}
