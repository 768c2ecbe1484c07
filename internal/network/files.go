package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (n *Networks) fileDir(containerID string) string { return filepath.Join(n.dir, containerID) }

func (n *Networks) setFilePaths(s *shoal.Sandbox, containerID string) {
	dir := n.fileDir(containerID)
	s.ResolvConf, s.Hosts, s.HostnameAt = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname")
}

// hostSandbox is that of a container in the node's own namespace: it gets the host's files.
func (n *Networks) hostSandbox(spec shoal.SandboxSpec) (shoal.Sandbox, error) {
	var s shoal.Sandbox
	n.setFilePaths(&s, spec.ContainerID)
	if err := os.MkdirAll(n.fileDir(spec.ContainerID), 0o700); err != nil {
		return s, fmt.Errorf("make network files: %w", err)
	}
	resolv, err := os.ReadFile(n.cfg.ResolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("read host's resolv.conf: %w", err)
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("read host's hosts: %w", err)
	}
	return s, errors.Join(os.WriteFile(s.ResolvConf, resolv, 0o644), os.WriteFile(s.Hosts, hosts, 0o644),
		os.WriteFile(s.HostnameAt, []byte(spec.Hostname+"\n"), 0o644)) // #nosec G703 -- below our own folder
}

// writeFiles writes what the container finds in /etc. The files are mounted into it, so they are written in place.
func (n *Networks) writeFiles(sb *containerSandbox) error {
	n.mu.Lock()
	spec, endpoints := sb.Spec, slices.Clone(sb.Endpoints)
	linked, err := n.linkHostsLocked(sb)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	var s shoal.Sandbox
	n.setFilePaths(&s, spec.ContainerID)
	if err := os.MkdirAll(n.fileDir(spec.ContainerID), 0o711); err != nil {
		return fmt.Errorf("make network files: %w", err)
	}
	return errors.Join(os.WriteFile(s.ResolvConf, []byte(n.resolvConf(spec, endpoints)), 0o644),
		os.WriteFile(s.Hosts, []byte(hostsFile(spec, endpoints)+linked), 0o644), os.WriteFile(s.HostnameAt, []byte(spec.Hostname+"\n"), 0o644))
}

// hostResolver is what the host's resolv.conf says.
type hostResolver struct {
	servers []netip.Addr
	search  []string
	options []string
}

func (n *Networks) hostResolver() hostResolver {
	var h hostResolver
	text, err := os.ReadFile(n.cfg.ResolvConf)
	if err != nil {
		return h // a host without the file has no resolvers
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil {
				h.servers = append(h.servers, a)
			}
		case "search", "domain":
			h.search = words[1:]
		case "options":
			h.options = words[1:]
		}
	}
	return h
}

// usesEmbeddedResolver reports whether a sandbox with these endpoints gets the embedded resolver. As in Docker, all do except those on the default bridge only.
func usesEmbeddedResolver(endpoints []*endpoint) bool {
	return slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.Info.Network != defaultBridge })
}

func (n *Networks) resolvConf(spec shoal.SandboxSpec, endpoints []*endpoint) string {
	host := n.hostResolver()
	search, options := host.search, host.options
	if len(spec.DNS.Search) > 0 {
		search = spec.DNS.Search
	}
	if len(spec.DNS.Options) > 0 {
		options = spec.DNS.Options
	}
	var servers []string
	switch {
	case usesEmbeddedResolver(endpoints):
		servers = []string{dns.ResolverAddr}
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append(slices.Clone(options), "ndots:0")
		}
	case len(spec.DNS.Nameservers) > 0:
		for _, a := range spec.DNS.Nameservers {
			servers = append(servers, a.String())
		}
	default:
		for _, a := range host.servers {
			if !a.IsLoopback() {
				servers = append(servers, a.String())
			}
		}
	}
	var text strings.Builder
	for _, s := range servers {
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

func hostsFile(spec shoal.SandboxSpec, endpoints []*endpoint) string {
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
			if !e.onGatewayBridge() && p.IsValid() && name != "" {
				text.WriteString(p.Addr().String() + "\t" + name + "\n")
			}
		}
	}
	return text.String()
}

func gatewayOf(endpoints []*endpoint) string {
	for _, e := range endpoints {
		if e.Info.Gateway.IsValid() {
			return e.Info.Gateway.String()
		}
	}
	return "127.0.0.1"
}
