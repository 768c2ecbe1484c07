package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	nettypes "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// networks serves /networks: this node's own, and the cluster's.
type networks struct {
	local      *network.Networks
	members    *membership.Membership
	containers *container.Engine
}

func (n *networks) register(rt *router) {
	rt.handle("GET /networks", n.list)
	rt.handle("GET /networks/{id}", n.inspect)
	rt.handle("POST /networks/create", n.create)
	rt.handle("DELETE /networks/{id}", n.remove)
	rt.handle("POST /networks/{id}/connect", n.connect)
	rt.handle("POST /networks/{id}/disconnect", n.disconnect)
	rt.handle("POST /networks/prune", n.prune)
}

// all is every network that this node can show: a manager knows all of the cluster's, a worker those it takes part in.
func (n *networks) all() []shoal.Network {
	list := n.local.List()
	s, err := n.members.Store()
	if err != nil {
		return list // not a manager
	}
	list = slices.DeleteFunc(list, func(net shoal.Network) bool { return net.Spec.Scope != shoal.ScopeLocal })
	for _, net := range s.View().Networks() {
		list = append(list, *net)
	}
	return list
}

// find prefers, as Docker does, a full ID to a name, and a name to the beginning of an ID.
func (n *networks) find(ref string) (shoal.Network, error) {
	all := n.all()
	for _, matches := range []func(shoal.Network) bool{
		func(net shoal.Network) bool { return net.ID == ref },
		func(net shoal.Network) bool { return net.Spec.Name == ref },
		func(net shoal.Network) bool { return strings.HasPrefix(net.ID, ref) },
	} {
		found := slices.DeleteFunc(slices.Clone(all), func(net shoal.Network) bool { return !matches(net) })
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return shoal.Network{}, fail(http.StatusBadRequest, "network %s is ambiguous (%d matches found on name)", ref, len(found))
		}
	}
	return shoal.Network{}, fail(http.StatusNotFound, "network %s not found", ref)
}

func (n *networks) list(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, byUse, err := f.boolean("dangling")
	if err != nil {
		return err
	}
	out := []nettypes.Summary{}
	for _, net := range n.all() {
		if !f.prefix("id", net.ID) || !f.contains("name", net.Spec.Name) || !f.exact("driver", driverShown(net)) || !f.exact("scope", scopeOf(net)) ||
			!f.labels("label", net.Spec.Labels) || !f.any("type", func(want string) bool { return want == typeOf(net) }) {
			continue
		}
		if byUse && dangling != (typeOf(net) == "custom" && len(n.local.ContainersOn(net.ID)) == 0) {
			continue
		}
		out = append(out, nettypes.Summary{Network: networkTo(net)})
	}
	return writeJSON(w, http.StatusOK, out)
}

func (n *networks) inspect(w http.ResponseWriter, r *http.Request) error {
	net, err := n.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if scope := r.FormValue("scope"); scope != "" && scope != scopeOf(net) {
		return fail(http.StatusNotFound, "network %s not found", r.PathValue("id"))
	}
	out := nettypes.Inspect{Network: networkTo(net)}
	table := n.local.Table()
	_, present := table.Networks[net.ID]
	if present || scopeOf(net) == shoal.ScopeLocal {
		out.Containers = map[string]nettypes.EndpointResource{}
		for id, e := range n.local.ContainersOn(net.ID) {
			out.Containers[id] = nettypes.EndpointResource{Name: e.Container, EndpointID: e.Info.EndpointID, MacAddress: hardwareAddr(e.Info.MAC), IPv4Address: e.Info.Addr}
		}
	}
	if s, err := n.members.Store(); err == nil {
		out.Status = exhaustion(s.View(), net.ID)
	}
	if present {
		out.Labels = orEmpty(out.Labels)
		out.Peers = peersOf(table, net.ID)
		if flag(r, "verbose") {
			out.Services = servicesOn(table, net.ID)
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// exhaustion tells, as newer API versions do of every network, how many addresses are left, if there are none: nil otherwise.
func exhaustion(v store.View, id shoal.ID) *nettypes.Status {
	net := v.Network(id)
	if net == nil {
		return nil
	}
	usage := allocator.UsageOf(v, net)
	if !allocator.Full(usage) {
		return nil
	}
	out := &nettypes.Status{IPAM: nettypes.IPAMStatus{Subnets: nettypes.SubnetStatuses{}}}
	for _, u := range usage {
		out.IPAM.Subnets[u.Subnet] = nettypes.SubnetStatus{IPsInUse: u.InUse, DynamicIPsAvailable: u.Left}
	}
	return out
}

func (n *networks) create(w http.ResponseWriter, r *http.Request) error {
	var req createNetwork
	if err := readJSON(r, &req); err != nil {
		return err
	}
	if strings.TrimSpace(req.Name) == "" {
		return fail(http.StatusBadRequest, "invalid name: name is empty")
	}
	spec, err := req.spec()
	if err != nil {
		return err
	}
	var id string
	if !spec.ConfigOnly && (spec.Driver == shoal.DriverOverlay || spec.Scope == shoal.ScopeSwarm || spec.Ingress) {
		id, err = n.createForCluster(r.Context(), spec)
	} else {
		var net shoal.Network
		net, err = n.local.Create(r.Context(), spec)
		id = net.ID
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, nettypes.CreateResponse{ID: id})
}

func (n *networks) createForCluster(ctx context.Context, spec shoal.NetworkSpec) (string, error) {
	s, err := n.members.Store()
	if err != nil {
		return "", fail(http.StatusServiceUnavailable, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	}
	if err := checkOverlay(spec); err != nil {
		return "", err
	}
	taken := subnetsOf(n.local.List())
	net := shoal.Network{ID: shoal.NewID(), CreatedAt: time.Now().UTC(), Spec: spec}
	net.UpdatedAt = net.CreatedAt
	err = s.Update(ctx, func(v store.View) (store.Changes, error) {
		var changes store.Changes
		if err := admit(v, taken, &net); err != nil {
			return changes, err
		}
		changes.Put(&net)
		return changes, nil
	})
	return net.ID, err
}

// checkOverlay refuses a cluster network that could never be.
func checkOverlay(spec shoal.NetworkSpec) error {
	if !dnsName.MatchString(spec.Name) {
		return shoal.InvalidArgument("name must be valid as a DNS name component")
	}
	if spec.EnableIPv4 != nil && !*spec.EnableIPv4 {
		return fail(http.StatusBadRequest, "IPv4 cannot be disabled in overlay networks")
	}
	for _, p := range subnetsOf([]shoal.Network{{Spec: spec}}) {
		if p.Addr().Is6() && !spec.EnableIPv6 {
			return fail(http.StatusBadRequest, "invalid network config:\ninvalid subnet %s: IPv6 has not been enabled for this network", p)
		}
	}
	if spec.ConfigFrom != "" {
		return fail(http.StatusNotImplemented, "overlay networks from a configuration-only network are not supported")
	}
	return nil
}

// admit refuses a cluster network that those already there leave no room for; taken is the subnets of this node's own.
func admit(v store.View, taken []netip.Prefix, net *shoal.Network) error {
	if v.NetworkByName(net.Spec.Name) != nil {
		return fail(http.StatusConflict, "network with name %s already exists", net.Spec.Name)
	}
	if in := v.IngressNetwork(); net.Spec.Ingress && in != nil {
		return shoal.AlreadyExists("ingress network (%s) is already present", in.ID)
	}
	for _, other := range v.Networks() {
		taken = append(slices.Clip(taken), subnetsOf([]shoal.Network{*other})...)
	}
	for _, mine := range subnetsOf([]shoal.Network{*net}) {
		if slices.ContainsFunc(taken, mine.Overlaps) {
			return fail(http.StatusForbidden, "invalid pool request: Pool overlaps with other one on this address space")
		}
		taken = append(slices.Clip(taken), mine)
	}
	return nil
}

// subnetsOf is the subnets that networks have or ask for.
func subnetsOf(list []shoal.Network) []netip.Prefix {
	var out []netip.Prefix
	for _, net := range list {
		for _, s := range append(slices.Clone(net.IPAM), net.Spec.IPAM...) {
			if p, err := netip.ParsePrefix(s.Subnet); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func (n *networks) remove(w http.ResponseWriter, r *http.Request) error {
	net, err := n.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	if scopeOf(net) == shoal.ScopeLocal {
		err = n.local.Remove(r.Context(), net.ID)
	} else {
		err = n.removeFromCluster(r.Context(), net.ID)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (n *networks) removeFromCluster(ctx context.Context, id string) error {
	s, err := n.members.Store()
	if err != nil {
		return err
	}
	return s.Update(ctx, func(v store.View) (store.Changes, error) {
		var changes store.Changes
		net := v.Network(id)
		if net == nil {
			return changes, fail(http.StatusNotFound, "network %s not found", id)
		}
		if err := unused(v, net); err != nil {
			return changes, err
		}
		changes.Delete(net)
		return changes, nil
	})
}

// unused refuses a network that a service or an attached container is on.
func unused(v store.View, net *shoal.Network) error {
	for _, s := range v.Services() {
		on := net.Spec.Ingress && s.Spec.Endpoint.HasIngressPort()
		for _, a := range s.Spec.AttachedNetworks() {
			on = on || a.Target == net.ID
		}
		if on && net.Spec.Ingress {
			return shoal.FailedPrecondition("ingress network cannot be removed because service %s depends on it", s.ID)
		}
		if on {
			return shoal.FailedPrecondition("network %s is in use by service %s", net.ID, s.ID)
		}
	}
	for _, t := range v.Tasks() {
		for _, a := range t.Networks {
			if a.NetworkID == net.ID && t.ServiceID == "" && t.Wanted() && t.Status.State <= shoal.TaskRunning {
				return shoal.FailedPrecondition("network %s is in use by task %s", net.ID, t.ID)
			}
		}
	}
	return nil
}

func (n *networks) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "until", "label", "label!")
	if err != nil {
		return err
	}
	report := nettypes.PruneReport{}
	for _, net := range n.all() {
		if typeOf(net) == "builtin" || net.Spec.Name == shoal.GwbridgeName || !f.labels("label", net.Spec.Labels) || f.has("label!") && f.labels("label!", net.Spec.Labels) {
			continue
		}
		if scopeOf(net) == shoal.ScopeLocal {
			err = n.local.Remove(r.Context(), net.ID)
		} else {
			err = n.removeFromCluster(r.Context(), net.ID)
		}
		switch {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, net.Spec.Name)
		case errors.Is(err, r.Context().Err()) && r.Context().Err() != nil:
			return err
		}
	}
	return writeJSON(w, http.StatusOK, report)
}
