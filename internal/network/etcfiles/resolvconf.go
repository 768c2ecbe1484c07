package etcfiles

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// HostResolver is what the host's resolv.conf says.
type HostResolver struct {
	Servers []netip.Addr
	search  []string
	options []string
}

// ReadHostResolver reads the host's resolv.conf. A host without the file has no name servers.
func ReadHostResolver(path string) HostResolver {
	var h HostResolver
	text, err := os.ReadFile(path)
	if err != nil {
		return h
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil {
				h.Servers = append(h.Servers, a)
			}
		case "search", "domain":
			h.search = words[1:]
		case "options":
			h.options = words[1:]
		}
	}
	return h
}

// resolvConf is the container's resolv.conf: the host's, changed by what the container asks for.
func (h HostResolver) resolvConf(spec shoal.SandboxSpec, endpoints sandbox.Endpoints) string {
	search, options := h.search, h.options
	if len(spec.DNS.Search) > 0 {
		search = spec.DNS.Search
	}
	if len(spec.DNS.Options) > 0 {
		options = spec.DNS.Options
	}
	if endpoints.UseResolver() && !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		options = append(slices.Clone(options), "ndots:0")
	}
	var text strings.Builder
	for _, s := range h.servers(spec, endpoints) {
		text.WriteString("nameserver " + s + "\n")
	}
	if len(search) > 0 && (len(search) != 1 || search[0] != ".") {
		text.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		text.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return text.String()
}

// servers is the name servers of the container. The host's own loopback addresses lead nowhere from there.
func (h HostResolver) servers(spec shoal.SandboxSpec, endpoints sandbox.Endpoints) []string {
	var servers []string
	switch {
	case endpoints.UseResolver():
		return []string{dns.ResolverAddr}
	case len(spec.DNS.Nameservers) > 0:
		for _, a := range spec.DNS.Nameservers {
			servers = append(servers, a.String())
		}
	default:
		for _, a := range h.Servers {
			if !a.IsLoopback() {
				servers = append(servers, a.String())
			}
		}
	}
	return servers
}
