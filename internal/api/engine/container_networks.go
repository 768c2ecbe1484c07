package engine

import (
	"fmt"
	"net/netip"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func toAPINetworkSettings(info container.Info) *apicontainer.NetworkSettings {
	sandbox := info.Sandbox
	out := &apicontainer.NetworkSettings{SandboxID: info.ID, SandboxKey: sandbox.Netns, Ports: network.PortMap{}, Networks: toAPIEndpointSettings(info)}
	if !isUp(info) {
		out.SandboxID, out.SandboxKey = "", ""
		return out
	}
	for _, p := range info.Spec.ExposedPorts {
		if port, err := network.ParsePort(p); err == nil {
			out.Ports[port] = nil
		}
	}
	for _, p := range sandbox.Ports {
		if port, ok := network.PortFrom(p.Target, network.IPProtocol(p.Protocol)); ok {
			out.Ports[port] = append(out.Ports[port], network.PortBinding{HostIP: publishedAddr(p), HostPort: publishedPort(p)})
		}
	}
	return out
}

func toAPIEndpointSettings(info container.Info) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	for _, e := range info.Sandbox.Endpoints {
		set := toAPIRequestedEndpoint(requestedEndpoint(info, e))
		set.NetworkID, set.Aliases, set.DNSNames, set.DriverOpts = string(e.NetworkID), e.Aliases, e.DNSNames, e.DriverOpts
		if isUp(info) {
			set.EndpointID, set.Gateway, set.IPv6Gateway = e.EndpointID, e.Gateway, e.Gateway6
			if e.Addr.IsValid() {
				set.IPAddress, set.IPPrefixLen = e.Addr.Addr(), e.Addr.Bits()
			}
			if e.Addr6.IsValid() {
				set.GlobalIPv6Address, set.GlobalIPv6PrefixLen = e.Addr6.Addr(), e.Addr6.Bits()
			}
			_ = set.MacAddress.UnmarshalText([]byte(e.MAC.String()))
		}
		out[e.Network] = set
	}
	if len(out) == 0 { // it has not been started: show the networks that it will join
		for _, e := range info.Spec.Network.Endpoints {
			out[e.Network] = toAPIRequestedEndpoint(e)
		}
	}
	if len(out) == 0 && info.Spec.Network.Mode != "networks" && !strings.HasPrefix(info.Spec.Network.Mode, "container:") {
		out[info.Spec.Network.Mode] = &network.EndpointSettings{}
	}
	return out
}

// toAPIRequestedEndpoint shows what is asked of a network, before there is an endpoint.
func toAPIRequestedEndpoint(e shoal.EndpointRequest) *network.EndpointSettings {
	set := &network.EndpointSettings{Aliases: e.Aliases, DriverOpts: e.DriverOpts, Links: e.Links, GwPriority: e.GwPriority}
	if e.Addr.IsValid() || e.Addr6.IsValid() || len(e.LinkLocal) > 0 {
		set.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: e.Addr, IPv6Address: e.Addr6, LinkLocalIPs: e.LinkLocal}
	}
	_ = set.MacAddress.UnmarshalText([]byte(e.MAC.String()))
	return set
}

// requestedEndpoint is what was asked of the network that an endpoint is on. The addresses of a task's endpoint are the cluster's choice, not a request.
func requestedEndpoint(info container.Info, e shoal.EndpointInfo) shoal.EndpointRequest {
	if info.Spec.API == nil {
		return shoal.EndpointRequest{}
	}
	for _, r := range info.Spec.Network.Endpoints {
		if r.Network == e.Network || len(r.Network) >= shortID && strings.HasPrefix(string(e.NetworkID), r.Network) {
			return r
		}
	}
	return shoal.EndpointRequest{}
}

// shortID is how many digits of an ID users take for it.
const shortID = 12

// publishedPort is the port of the host; empty for one that is reached at the container's own address.
func publishedPort(p shoal.PortBinding) string {
	if p.HostPort == 0 {
		return ""
	}
	return fmt.Sprint(p.HostPort)
}

// publishedAddr is the address of the host that a port is published on.
func publishedAddr(p shoal.PortBinding) netip.Addr {
	if !p.HostIP.IsValid() {
		return netip.IPv4Unspecified()
	}
	return p.HostIP
}
