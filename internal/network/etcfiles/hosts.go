package etcfiles

import (
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func hostsFile(spec shoal.SandboxSpec, endpoints sandbox.Endpoints) string {
	var text strings.Builder
	text.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, extra := range spec.ExtraHosts {
		if name, addr, ok := strings.Cut(extra, ":"); ok {
			if addr == "host-gateway" {
				addr = gatewayOf(endpoints)
			}
			text.WriteString(addr + "\t" + name + "\n")
		}
	}
	name := spec.Hostname
	if spec.Domainname != "" {
		name = spec.Hostname + "." + spec.Domainname + " " + spec.Hostname
	}
	for _, e := range endpoints {
		for _, p := range []netip.Prefix{e.Info.Addr, e.Info.Addr6} {
			if !e.OnGatewayBridge() && p.IsValid() && name != "" {
				text.WriteString(p.Addr().String() + "\t" + name + "\n")
			}
		}
	}
	return text.String()
}

// gatewayOf is the node as the container reaches it.
func gatewayOf(endpoints sandbox.Endpoints) string {
	for _, e := range endpoints {
		if e.Info.Gateway.IsValid() {
			return e.Info.Gateway.String()
		}
	}
	return "127.0.0.1"
}
