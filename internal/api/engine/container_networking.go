package engine

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// fromAPINetworking reads the network part of a request.
func fromAPINetworking(body apicontainer.CreateRequest) (shoal.SandboxSpec, error) {
	h := body.HostConfig
	s := shoal.SandboxSpec{Mode: string(h.NetworkMode), ExtraHosts: h.ExtraHosts, Links: h.Links, DNS: shoal.DNSConfig{Nameservers: h.DNS, Search: h.DNSSearch, Options: h.DNSOptions}}
	endpoints := map[string]*network.EndpointSettings{}
	if body.NetworkingConfig != nil {
		endpoints = body.NetworkingConfig.EndpointsConfig
	}
	if body.NetworkDisabled {
		s.Mode = "none"
	}
	if e, ok := endpoints["default"]; ok && s.Mode == "default" && endpoints["bridge"] == nil {
		endpoints = maps.Clone(endpoints)
		endpoints["bridge"] = e
	}
	switch mode := s.Mode; {
	case mode == "default" || mode == "bridge":
		s.Mode = "bridge"
		if len(endpoints) > 0 {
			s.Endpoints = fromAPIEndpoints("bridge", endpoints)
		}
	case mode == "host" || mode == "none" || strings.HasPrefix(mode, "container:"):
	default:
		s.Mode = "networks"
		s.Endpoints = fromAPIEndpoints(mode, endpoints)
	}
	if s.Mode == "bridge" && len(s.Endpoints) > 1 {
		s.Mode = "networks"
	}
	ports, err := fromAPIPortBindings(body)
	s.Ports = ports
	return s, err
}

// fromAPIEndpoints lists the networks to join: first the one that the mode names, then the others by name.
func fromAPIEndpoints(first string, settings map[string]*network.EndpointSettings) []shoal.EndpointRequest {
	names := []string{first}
	for name := range settings {
		if name != first && (name != "default" || first != "bridge") {
			names = append(names, name)
		}
	}
	slices.Sort(names[1:])
	var out []shoal.EndpointRequest
	for _, name := range names {
		out = append(out, fromAPIEndpoint(name, settings[name]))
	}
	return out
}

// fromAPIPortBindings reads the ports to publish but for those of PublishAllPorts.
func fromAPIPortBindings(body apicontainer.CreateRequest) ([]shoal.PortBinding, error) {
	var out []shoal.PortBinding
	for port, bindings := range body.HostConfig.PortBindings {
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			p := shoal.PortBinding{Protocol: shoal.Protocol(port.Proto()), Target: port.Num(), HostIP: b.HostIP}
			var err error
			if p.HostPort, p.HostPortEnd, err = parseHostPorts(b.HostPort); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b shoal.PortBinding) int { return int(a.Target) - int(b.Target) })
	return out, nil
}

// parseHostPorts reads a port of the host, "80", or a range to choose one from, "8000-8010". Empty text leaves the port to the
// engine; last is 0 for a single port.
func parseHostPorts(text string) (first, last uint16, err error) {
	if text == "" {
		return 0, 0, nil
	}
	from, to, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(from, 10, 16)
	if err != nil {
		return 0, 0, server.BadRequest("invalid port specification: %q", text)
	}
	if to == "" {
		return uint16(start), 0, nil
	}
	end, err := strconv.ParseUint(to, 10, 16)
	if err != nil || end < start {
		return 0, 0, server.BadRequest("invalid port specification: %q", text)
	}
	return uint16(start), uint16(end), nil
}
