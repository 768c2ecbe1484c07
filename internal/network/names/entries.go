package names

import (
	"fmt"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// addrs leaves out the IPv6 address where the kernel has no IPv6.
func addrs(addr, addr6 netip.Prefix, ipv6 bool) []netip.Addr {
	if !ipv6 {
		return ipam.Addrs(addr)
	}
	return ipam.Addrs(addr, addr6)
}

// serviceRecords is what a service with virtual addresses is called, by network.
func serviceRecords(s shoal.ServiceEntry, ipv6 bool) map[string]dns.Entry {
	out := map[string]dns.Entry{}
	for network := range s.VIPs {
		out[string(network)] = dns.Entry{Names: append([]string{s.Name}, s.Aliases[network]...), Addrs: addrs(s.VIPs[network], s.VIPs6[network], ipv6),
			Stack: s.Stack, Ports: portsOf(s)}
	}
	return out
}

// endpointRecords is what a task or an attached container is called; s is the zero value for what belongs to no service. A task
// stands for its service when it is ready, and for its slot until it is on its way out.
func endpointRecords(e shoal.Endpoint, s shoal.ServiceEntry, ipv6 bool) map[string]dns.Entry {
	out := dns.Entry{Names: []string{e.Name}, Addrs: addrs(e.Addr, e.Addr6, ipv6), Reverse: e.Name != "", Stack: s.Stack, Ports: portsOf(s)}
	if e.ContainerID != "" {
		out.Names = append(out.Names, sandbox.Namespace(e.ContainerID))
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

// sandboxRecords is what a container is called on its networks. On the default bridge nobody has a name.
func sandboxRecords(sb *sandbox.Sandbox) map[string]dns.Entry {
	out := map[string]dns.Entry{}
	for _, e := range sb.Endpoints {
		if e.OnGatewayBridge() || e.Info.Network == shoal.DefaultBridgeName {
			continue
		}
		entry := dns.Entry{Names: []string{sb.Spec.Name, sb.Namespace()}, Addrs: ipam.Addrs(e.Info.Addr, e.Info.Addr6), Reverse: sb.Spec.Name != ""}
		if sb.Spec.ServiceID == "" {
			entry.Names = append(append(entry.Names, e.Aliases...), sb.Spec.Hostname) // those of a task are its service's
		}
		out[string(e.Info.NetworkID)] = entry
	}
	return out
}
