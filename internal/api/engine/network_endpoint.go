package engine

import (
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// fromAPIEndpoint reads what a request asks of one network; e may be nil.
func fromAPIEndpoint(ref string, e *network.EndpointSettings) shoal.EndpointRequest {
	req := shoal.EndpointRequest{Network: ref}
	if e == nil {
		return req
	}
	req.Aliases, req.DriverOpts, req.MAC = e.Aliases, e.DriverOpts, shoal.DecodeMAC(e.MacAddress.String())
	req.Links, req.GwPriority = e.Links, e.GwPriority
	if e.IPAMConfig != nil {
		req.Addr, req.Addr6, req.LinkLocal = e.IPAMConfig.IPv4Address, e.IPAMConfig.IPv6Address, e.IPAMConfig.LinkLocalIPs
	}
	return req
}

// nameNetworks puts the names of networks in place of IDs, and what was asked for one network under several of its names together. What it cannot find is
// left: a container's networks need not be there before it starts.
func nameNetworks(spec *shoal.SandboxSpec, find func(ref string) (shoal.Network, error)) error {
	var out []shoal.EndpointRequest
	for _, e := range spec.Endpoints {
		if net, err := find(e.Network); err == nil {
			if named, err := find(net.Spec.Name); err == nil && named.ID == net.ID { // of several networks with one name, the ID tells which
				e.Network = net.Spec.Name
			}
		}
		if err := e.Validate(); err != nil {
			return err
		}
		at := slices.IndexFunc(out, func(have shoal.EndpointRequest) bool { return have.Network == e.Network })
		switch {
		case at < 0:
			out = append(out, e)
		case isPlain(out[at]):
			out[at] = e
		case !isPlain(e):
			return server.Errorf(http.StatusBadRequest, "conflicting settings for network %s, which is named twice", e.Network)
		}
	}
	spec.Endpoints = out
	return nil
}

// isPlain tells of a request that asks for nothing but the network.
func isPlain(e shoal.EndpointRequest) bool {
	return !e.Addr.IsValid() && !e.Addr6.IsValid() && e.MAC.IsZero() && e.GwPriority == 0 &&
		len(e.Aliases)+len(e.DriverOpts)+len(e.Links)+len(e.LinkLocal) == 0
}

// isPredefined tells of names of networks that every node has.
func isPredefined(name string) bool {
	return slices.Contains([]string{"bridge", "host", "none", "default"}, name)
}
