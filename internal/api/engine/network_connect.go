package engine

import (
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (n *networks) connect(_ http.ResponseWriter, r *http.Request) error {
	var req apinetwork.ConnectRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	info, err := n.containers.Inspect(req.Container)
	if err != nil {
		return err
	}
	want := fromAPIEndpoint(r.PathValue("id"), req.EndpointConfig)
	if err := want.Validate(); err != nil {
		return err
	}
	// A network that a worker does not know may be one of the cluster's: Connect asks a manager.
	net, unknown := n.find(want.Network)
	if unknown == nil {
		want.Network = net.Spec.Name
	}
	if err := validateNetworkMode(info.Spec.Network.Mode); err != nil {
		return err
	}
	endpoint := shoal.EndpointInfo{Network: net.Spec.Name, NetworkID: net.ID, Aliases: want.Aliases, DriverOpts: want.DriverOpts, GwPriority: want.GwPriority}
	if isUp(info) {
		endpoint, err = n.local.Connect(r.Context(), info.ID, want)
	} else {
		err = unknown
	}
	if err != nil {
		return err
	}
	return n.containers.UpdateNetwork(info.ID, func(spec *shoal.SandboxSpec, sandbox *shoal.Sandbox) error {
		nameDefaultNetwork(spec)
		if at := slices.IndexFunc(spec.Endpoints, func(e shoal.EndpointRequest) bool {
			return e.Network == endpoint.Network || e.Network == string(endpoint.NetworkID)
		}); at >= 0 {
			switch {
			case isUp(info):
				return server.Errorf(http.StatusForbidden, "endpoint with name %s already exists in network %s", info.Name, endpoint.Network)
			case networkScope(net) == shoal.ScopeSwarm: // as in Docker, the last word counts there, and on a node's own networks the first
				spec.Endpoints = slices.Clone(spec.Endpoints)
				spec.Endpoints[at] = want
			}
			return nil
		}
		for _, e := range spec.Endpoints {
			if !slices.ContainsFunc(sandbox.Endpoints, func(h shoal.EndpointInfo) bool { return h.Network == e.Network || string(h.NetworkID) == e.Network }) {
				sandbox.Endpoints = append(slices.Clone(sandbox.Endpoints), shoal.EndpointInfo{Network: e.Network, Aliases: e.Aliases})
			}
		}
		spec.Endpoints = append(slices.Clone(spec.Endpoints), want)
		sandbox.Endpoints = append(slices.Clone(sandbox.Endpoints), endpoint)
		return nil
	})
}

// validateNetworkMode refuses to connect containers that have no network namespace of their own.
func validateNetworkMode(mode string) error {
	switch {
	case mode == "none":
		return server.Errorf(http.StatusForbidden, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	case mode == "host":
		return server.Errorf(http.StatusForbidden, "container cannot be connected to host network - container must be created in host network mode")
	case len(mode) > len("container:") && strings.HasPrefix(mode, "container:"):
		return server.Errorf(http.StatusForbidden, "container sharing network namespace with another container or host cannot be connected to any other network")
	}
	return nil
}

// nameDefaultNetwork adds the default bridge to the networks of a container that was created without naming any.
func nameDefaultNetwork(spec *shoal.SandboxSpec) {
	if len(spec.Endpoints) == 0 && (spec.Mode == "" || spec.Mode == "default" || spec.Mode == "bridge") {
		spec.Endpoints = []shoal.EndpointRequest{{Network: "bridge"}}
	}
}

// isOn tells whether a container is on a network, or will be when it starts.
func isOn(info container.Info, net shoal.Network) bool {
	spec := info.Spec.Network
	nameDefaultNetwork(&spec)
	return slices.ContainsFunc(spec.Endpoints, func(e shoal.EndpointRequest) bool { return e.Network == net.Spec.Name || e.Network == string(net.ID) }) ||
		slices.ContainsFunc(info.Sandbox.Endpoints, func(e shoal.EndpointInfo) bool { return e.Network == net.Spec.Name || e.NetworkID == net.ID })
}

func (n *networks) disconnect(_ http.ResponseWriter, r *http.Request) error {
	var req apinetwork.DisconnectRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	net, err := n.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	info, err := n.containers.Inspect(req.Container)
	if err != nil {
		if req.Force && errdefs.IsNotFound(err) { // remove what is left of a container that is gone
			return n.local.Disconnect(r.Context(), req.Container, string(net.ID), true)
		}
		return err
	}
	if req.Force && !isOn(info, net) {
		return server.Errorf(http.StatusForbidden, "container %s is not connected to network %s", info.ID, net.Spec.Name)
	}
	if isUp(info) {
		if err := n.local.Disconnect(r.Context(), info.ID, string(net.ID), req.Force); err != nil {
			return err
		}
	}
	return n.containers.UpdateNetwork(info.ID, func(spec *shoal.SandboxSpec, sandbox *shoal.Sandbox) error {
		nameDefaultNetwork(spec)
		left := slices.DeleteFunc(slices.Clone(spec.Endpoints), func(e shoal.EndpointRequest) bool { return e.Network == net.Spec.Name || e.Network == string(net.ID) })
		if len(left) == len(spec.Endpoints) && !isUp(info) && !req.Force {
			return server.Errorf(http.StatusForbidden, "container %s is not connected to network %s", info.ID, net.Spec.Name)
		}
		spec.Endpoints = left
		if len(left) == 0 {
			spec.Mode = "networks" // otherwise it would be on the default bridge again
		}
		sandbox.Endpoints = slices.DeleteFunc(slices.Clone(sandbox.Endpoints), func(e shoal.EndpointInfo) bool { return e.Network == net.Spec.Name || e.NetworkID == net.ID })
		return nil
	})
}
