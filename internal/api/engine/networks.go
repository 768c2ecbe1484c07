package engine

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// LocalNetworks is the networks of this node. An ID must be the full ID; a ref may be a name or an ID.
type LocalNetworks interface {
	// List is the node's own networks, and those of the cluster that it takes part in.
	List() []shoal.Network
	// Create creates a network of the node. Errors have a kind: a name that is taken is a conflict.
	Create(ctx context.Context, spec shoal.NetworkSpec) (shoal.Network, error)
	// Remove removes a network of the node that no container is on.
	Remove(ctx context.Context, ref string) error
	// Connect adds an endpoint to a container that runs.
	Connect(ctx context.Context, containerID string, req shoal.EndpointRequest) (shoal.EndpointInfo, error)
	// Disconnect removes the endpoint of a container; with force, also one that a container which no longer exists has left over.
	Disconnect(ctx context.Context, containerID, ref string, force bool) error
	// ContainersOn is the endpoints of this node's containers on a network, by container.
	ContainersOn(networkID shoal.NetworkID) map[string]network.Endpoint
	// Table is what the node knows of the cluster's networks that it takes part in.
	Table() shoal.Table
}

// ClusterNetworks is the networks of the cluster, if this node is a manager of one.
type ClusterNetworks interface {
	// List fails if this node is no manager.
	List() ([]shoal.Network, error)
	// Create returns the ID of the new network, whose subnets must not overlap those of the node's own networks.
	Create(ctx context.Context, spec shoal.NetworkSpec, local []shoal.Network) (string, error)
	// Remove removes a network that nothing is on.
	Remove(ctx context.Context, id string) error
	// Used tells whether a service or a task is on a network; false on a node that is no manager.
	Used(id string) bool
	// Status is nil unless the network has run out of addresses.
	Status(id string) *apinetwork.Status
}

// networks serves /networks: those of the node, and those of the cluster.
type networks struct {
	local      LocalNetworks
	cluster    ClusterNetworks
	containers *container.Engine
	events     *events.Bus
}

func (n *networks) Register(rt *server.Router) {
	rt.Handle("GET /networks", n.list)
	rt.Handle("GET /networks/{id}", n.inspect)
	rt.Handle("POST /networks/create", n.create)
	rt.Handle("DELETE /networks/{id}", n.remove)
	rt.Handle("POST /networks/{id}/connect", n.connect)
	rt.Handle("POST /networks/{id}/disconnect", n.disconnect)
	rt.Handle("POST /networks/prune", n.prune)
}

// all is every network that this node can show: a manager knows all of the cluster's, a worker those it takes part in.
func (n *networks) all() []shoal.Network {
	local := n.local.List()
	cluster, err := n.cluster.List()
	if err != nil {
		return local // this node is no manager
	}
	local = slices.DeleteFunc(local, func(net shoal.Network) bool { return net.Spec.Scope != shoal.ScopeLocal })
	return append(local, cluster...)
}

// find finds a network as users name it: by its full ID, else by its name, else by the beginning of its ID, in Docker's order.
func (n *networks) find(ref string) (shoal.Network, error) {
	all := n.all()
	for _, matches := range []func(shoal.Network) bool{
		func(net shoal.Network) bool { return string(net.ID) == ref },
		func(net shoal.Network) bool { return net.Spec.Name == ref },
		func(net shoal.Network) bool { return strings.HasPrefix(string(net.ID), ref) },
	} {
		found := slices.DeleteFunc(slices.Clone(all), func(net shoal.Network) bool { return !matches(net) })
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return shoal.Network{}, server.BadRequest("network %s is ambiguous (%d matches found on name)", ref, len(found))
		}
	}
	return shoal.Network{}, server.Errorf(http.StatusNotFound, "network %s not found", ref)
}

func (n *networks) list(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadFilters(r, "dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	keep, err := listedNetworks(f, n.isUsed)
	if err != nil {
		return err
	}
	withContainers := version.Before(r.Context(), "1.28") // later clients inspect the networks
	out := []any{}
	for _, net := range n.all() {
		if !keep(net) {
			continue
		}
		if withContainers {
			out = append(out, apinetwork.Inspect{Network: toAPINetwork(net), Containers: n.toAPIContainers(net.ID)})
			continue
		}
		out = append(out, apinetwork.Summary{Network: toAPINetwork(net)})
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (n *networks) inspect(w http.ResponseWriter, r *http.Request) error {
	net, err := n.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	scope := r.FormValue("scope")
	if scope == shoal.ScopeSwarm && (net.Spec.Name == shoal.DriverHost || net.Spec.Name == shoal.DefaultBridgeName) {
		// Every node has it: clients that are about to put a service on it ask for it so. In specs of services its name is its ID.
		net.ID, net.Spec.Scope = shoal.NetworkID(net.Spec.Name), scope
	}
	if scope != "" && scope != networkScope(net) {
		return server.Errorf(http.StatusNotFound, "network %s not found", r.PathValue("id"))
	}
	out := apinetwork.Inspect{Network: toAPINetwork(net)}
	table := n.local.Table()
	_, takesPart := table.Networks[net.ID]
	if takesPart || networkScope(net) == shoal.ScopeLocal {
		out.Containers = n.toAPIContainers(net.ID)
	}
	out.Status = n.cluster.Status(string(net.ID))
	if takesPart {
		out.Labels = convert.NonNil(out.Labels)
		out.Peers = toAPIPeers(table, net.ID)
		if server.BoolParam(r, "verbose") {
			out.Services = toAPIServices(table, net.ID)
		}
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

// isUsed tells whether something is on a network, as far as this node knows.
func (n *networks) isUsed(net shoal.Network) bool {
	return len(n.local.ContainersOn(net.ID)) > 0 || networkScope(net) == shoal.ScopeSwarm && n.cluster.Used(string(net.ID))
}

// listedNetworks reads which networks the filters of a list let pass.
func listedNetworks(f server.Filters, isUsed func(shoal.Network) bool) (keep func(shoal.Network) bool, err error) {
	if len(f["dangling"]) > 1 {
		return nil, server.BadRequest(`got more than one value for filter key "dangling"`)
	}
	dangling, given, err := f.Bool("dangling")
	if err != nil {
		return nil, server.BadRequest(`invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`)
	}
	for _, kind := range f["type"] {
		if kind != "builtin" && kind != "custom" {
			return nil, server.BadRequest("invalid filter: 'type'='%s'", kind)
		}
	}
	return func(net shoal.Network) bool {
		return f.Match("id", string(net.ID)) && f.Match("name", net.Spec.Name) && f.Equal("driver", toAPIDriverName(net)) && f.Equal("scope", networkScope(net)) &&
			f.LabelsNamed("label", net.Spec.Labels) && f.Equal("type", networkType(net)) &&
			(!given || dangling == (networkType(net) == "custom" && !isUsed(net)))
	}, nil
}

// toAPIContainers shows this node's containers on a network.
func (n *networks) toAPIContainers(id shoal.NetworkID) map[string]apinetwork.EndpointResource {
	out := map[string]apinetwork.EndpointResource{}
	for container, e := range n.local.ContainersOn(id) {
		out[container] = apinetwork.EndpointResource{Name: e.Container, EndpointID: e.Info.EndpointID, MacAddress: toAPIHardwareAddr(e.Info.MAC),
			IPv4Address: e.Info.Addr, IPv6Address: e.Info.Addr6}
	}
	return out
}

func (n *networks) remove(w http.ResponseWriter, r *http.Request) error {
	net, err := n.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	return server.NoContent(w, n.delete(r.Context(), net))
}

// delete removes a network from the node, or from the cluster.
func (n *networks) delete(ctx context.Context, net shoal.Network) error {
	if networkScope(net) == shoal.ScopeLocal {
		return n.local.Remove(ctx, string(net.ID))
	}
	return n.cluster.Remove(ctx, string(net.ID))
}

func (n *networks) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadPruneFilters(r, "until")
	if err != nil {
		return err
	}
	report := apinetwork.PruneReport{}
	for _, net := range n.all() {
		if networkType(net) == "builtin" || net.Spec.Name == shoal.GwbridgeName || !f.Take(net.Spec.Labels, net.CreatedAt) {
			continue
		}
		err := n.delete(r.Context(), net)
		switch {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, net.Spec.Name)
		case errors.Is(err, r.Context().Err()) && r.Context().Err() != nil:
			return err
		}
	}
	publishPrune(n.events, "network", 0)
	return server.WriteJSON(w, http.StatusOK, report)
}
