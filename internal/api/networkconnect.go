package api

import (
	"net/http"
	"slices"

	"github.com/containerd/errdefs"
	nettypes "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (n *networks) connect(_ http.ResponseWriter, r *http.Request) error {
	var req nettypes.ConnectRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	info, err := n.containers.Inspect(req.Container)
	if err != nil {
		return err
	}
	want := shoal.EndpointRequest{Network: r.PathValue("id")}
	net, unknown := n.find(want.Network)
	if unknown == nil { // else a manager may know it
		want.Network = net.Spec.Name
	}
	if c := req.EndpointConfig; c != nil {
		want.Aliases, want.DriverOpts, want.MAC = c.Aliases, c.DriverOpts, c.MacAddress.String()
		if c.IPAMConfig != nil {
			want.Addr = c.IPAMConfig.IPv4Address
		}
	}
	if err := joinable(info.Spec.Network.Mode); err != nil {
		return err
	}
	endpoint := shoal.EndpointInfo{Network: net.Spec.Name, NetworkID: net.ID, Aliases: want.Aliases, DriverOpts: want.DriverOpts}
	if isUp(info) {
		endpoint, err = n.local.Connect(r.Context(), info.ID, want)
	} else {
		err = unknown
	}
	if err != nil {
		return err
	}
	return n.containers.Rewire(info.ID, func(wishes *shoal.SandboxSpec, has *shoal.Sandbox) error {
		spellOut(wishes)
		if slices.ContainsFunc(wishes.Endpoints, func(e shoal.EndpointRequest) bool {
			return e.Network == endpoint.Network || e.Network == endpoint.NetworkID
		}) {
			return fail(http.StatusForbidden, "endpoint with name %s already exists in network %s", info.Name, endpoint.Network)
		}
		for _, e := range wishes.Endpoints {
			if !slices.ContainsFunc(has.Endpoints, func(h shoal.EndpointInfo) bool { return h.Network == e.Network || h.NetworkID == e.Network }) {
				has.Endpoints = append(slices.Clone(has.Endpoints), shoal.EndpointInfo{Network: e.Network, Aliases: e.Aliases})
			}
		}
		wishes.Endpoints = append(slices.Clone(wishes.Endpoints), want)
		has.Endpoints = append(slices.Clone(has.Endpoints), endpoint)
		return nil
	})
}

// joinable refuses containers that have no network of their own.
func joinable(mode string) error {
	switch {
	case mode == "none":
		return fail(http.StatusForbidden, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	case mode == "host":
		return fail(http.StatusForbidden, "container cannot be connected to host network - container must be created in host network mode")
	case len(mode) > len("container:") && mode[:len("container:")] == "container:":
		return fail(http.StatusForbidden, "container sharing network namespace with another container or host cannot be connected to any other network")
	}
	return nil
}

func isUp(info container.Info) bool {
	return info.State.Status == container.Running || info.State.Status == container.Paused
}

// spellOut names the default bridge that a container is on which asked for nothing.
func spellOut(wishes *shoal.SandboxSpec) {
	if len(wishes.Endpoints) == 0 && (wishes.Mode == "" || wishes.Mode == "default" || wishes.Mode == "bridge") {
		wishes.Endpoints = []shoal.EndpointRequest{{Network: "bridge"}}
	}
}

func (n *networks) disconnect(_ http.ResponseWriter, r *http.Request) error {
	var req nettypes.DisconnectRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	net, err := n.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	info, err := n.containers.Inspect(req.Container)
	if err != nil {
		if req.Force && errdefs.IsNotFound(err) { // what is left of a container that is gone
			return n.local.Disconnect(r.Context(), req.Container, net.ID, true)
		}
		return err
	}
	if isUp(info) {
		if err := n.local.Disconnect(r.Context(), info.ID, net.ID, req.Force); err != nil {
			return err
		}
	}
	return n.containers.Rewire(info.ID, func(wishes *shoal.SandboxSpec, has *shoal.Sandbox) error {
		spellOut(wishes)
		left := slices.DeleteFunc(slices.Clone(wishes.Endpoints), func(e shoal.EndpointRequest) bool { return e.Network == net.Spec.Name || e.Network == net.ID })
		if len(left) == len(wishes.Endpoints) && !isUp(info) && !req.Force {
			return fail(http.StatusForbidden, "container %s is not connected to network %s", info.ID, net.Spec.Name)
		}
		wishes.Endpoints = left
		if len(left) == 0 {
			wishes.Mode = "networks" // none any more, not the default bridge
		}
		has.Endpoints = slices.DeleteFunc(slices.Clone(has.Endpoints), func(e shoal.EndpointInfo) bool { return e.Network == net.Spec.Name || e.NetworkID == net.ID })
		return nil
	})
}
