package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/network/local"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Defaults is what the node's settings say for containers and networks that do not say it themselves. The zero value says nothing.
type Defaults struct {
	DNS shoal.DNSConfig
	// HostGateways is what "host-gateway" stands for in extra hosts; empty for the addresses of the default bridge.
	HostGateways []netip.Addr
	// NetworkOptions is driver options of new networks, by driver.
	NetworkOptions map[string]map[string]string
	Bridge         DefaultBridge
	// DirectRouting lets published ports be reached from outside at containers' own addresses too, by who knows a way to these.
	DirectRouting bool
}

// DefaultBridge is the settings of the default bridge network.
type DefaultBridge = local.DefaultBridge

// defaultBridge is the settings, with a name for the bridge if another daemon has docker0.
func (n *Networks) defaultBridge() DefaultBridge {
	b := n.cfg.Defaults.Bridge
	b.Spare = n.owns.bridgeName()
	return b
}

// hasContainers tells whether an active sandbox has an endpoint on the network. n.mu is held, or nobody else knows n yet.
func (n *Networks) hasContainers(l *local.Network) bool {
	for _, sb := range n.sandboxes.All() {
		if sb.Active && slices.ContainsFunc(sb.Endpoints, func(e *sandbox.Endpoint) bool { return e.Bridge == l.Bridge() }) {
			return true
		}
	}
	return false
}

// withDefaults is a container's spec completed by the node's settings.
func (n *Networks) withDefaults(spec shoal.SandboxSpec) shoal.SandboxSpec {
	d := &n.cfg.Defaults
	if len(spec.DNS.Nameservers) == 0 {
		spec.DNS.Nameservers = d.DNS.Nameservers
	}
	if len(spec.DNS.Search) == 0 {
		spec.DNS.Search = d.DNS.Search
	}
	if len(spec.DNS.Options) == 0 {
		spec.DNS.Options = d.DNS.Options
	}
	if d.Bridge.Disabled && (spec.Mode == "" || spec.Mode == "default" || spec.Mode == shoal.DefaultBridgeName) {
		spec.Mode = "none"
	}
	spec.ExtraHosts = n.withHostGateways(spec.ExtraHosts)
	return spec
}

// withHostGateways replaces "host-gateway" in lines of extra hosts by the node's addresses. Without any it stays, for the gateway of the container.
func (n *Networks) withHostGateways(hosts []string) []string {
	gateways := n.HostGateways()
	if len(gateways) == 0 {
		return hosts
	}
	var out []string
	for _, line := range hosts {
		name, addr, _ := strings.Cut(line, ":")
		if addr != "host-gateway" {
			out = append(out, line)
			continue
		}
		for _, g := range gateways {
			out = append(out, name+":"+g.String())
		}
	}
	return out
}

// HostGateways is what "host-gateway" stands for in extra hosts: what the settings say, or the node's addresses on the default bridge; nil without either.
func (n *Networks) HostGateways() []netip.Addr {
	if gateways := n.cfg.Defaults.HostGateways; len(gateways) > 0 {
		return gateways
	}
	return n.bridgeGateways()
}

// bridgeGateways is the node's addresses on the default bridge.
func (n *Networks) bridgeGateways() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.local.Find(shoal.DefaultBridgeName)
	if l == nil || !l.IsBridge() {
		return nil
	}
	gateways := []netip.Addr{l.Gateway().Addr()}
	if g := l.Gateway6(); g.IsValid() {
		gateways = append(gateways, g.Addr())
	}
	return gateways
}

// publishedAt is the node's address for ports of the sandbox that name none; invalid for all. It is a setting of the bridge that the sandbox is on.
func (n *Networks) publishedAt(sb *sandbox.Sandbox) netip.Addr {
	for _, e := range sb.Endpoints {
		for _, l := range n.local.All() {
			if e.Bridge != "" && l.IsBridge() && l.Bridge() == e.Bridge {
				return l.HostIP()
			}
		}
	}
	return netip.Addr{}
}
