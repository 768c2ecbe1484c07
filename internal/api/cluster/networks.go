package cluster

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Networks is the cluster's networks, which /networks shows beside those of the node.
type Networks struct {
	state StateSource
	// exhausted is how the addresses of a network are used if no task can get one; nil while one can.
	exhausted func(v store.View, n *shoal.Network) []shoal.SubnetUsage
}

// NewNetworks returns the cluster's networks. exhausted tells how the addresses of a network are used if no task can get one any
// more, and nil otherwise.
func NewNetworks(state StateSource, exhausted func(v store.View, n *shoal.Network) []shoal.SubnetUsage) *Networks {
	return &Networks{state, exhausted}
}

// List returns all of the cluster's networks. An error means that this node is no manager.
func (n *Networks) List() ([]shoal.Network, error) {
	db, err := n.state.Store()
	if err != nil {
		return nil, err
	}
	return convert.List(db.View().Networks(), func(net *shoal.Network) shoal.Network { return *net }), nil
}

// Create adds a network to the cluster and returns its ID; the allocator gives it what the spec leaves open. Its subnets may
// overlap neither those of another network of the cluster nor those of this node's own, local networks. On a node that is no
// manager it fails with status 403.
func (n *Networks) Create(ctx context.Context, spec shoal.NetworkSpec, local []shoal.Network) (string, error) {
	db, err := n.state.Store()
	if err != nil {
		return "", server.Errorf(http.StatusForbidden,
			"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	}
	if err := validateOverlay(spec); err != nil {
		return "", err
	}
	net := shoal.Network{ID: shoal.NewID[shoal.NetworkID](), Meta: shoal.Meta{CreatedAt: time.Now().UTC()}, Spec: spec}
	net.UpdatedAt = net.CreatedAt
	err = db.Update(ctx, func(v store.View) (store.Changes, error) {
		var changes store.Changes
		if err := validateUnique(v, local, &net); err != nil {
			return changes, err
		}
		changes.Put(&net)
		return changes, nil
	})
	return string(net.ID), err
}

// Remove deletes a network of the cluster that no service and no attached container uses.
func (n *Networks) Remove(ctx context.Context, id string) error {
	db, err := n.state.Store()
	if err != nil {
		return err
	}
	return db.Update(ctx, func(v store.View) (store.Changes, error) {
		var changes store.Changes
		net := v.Network(shoal.NetworkID(id))
		if net == nil {
			return changes, server.Errorf(http.StatusNotFound, "network %s not found", id)
		}
		if err := validateUnused(v, net); err != nil {
			return changes, err
		}
		changes.Delete(net)
		return changes, nil
	})
}

// Used tells whether a service or an attached container is on a network. It is false for networks that are not the cluster's, and on nodes that are no managers.
func (n *Networks) Used(id string) bool {
	db, err := n.state.Store()
	if err != nil {
		return false
	}
	view := db.View()
	net := view.Network(shoal.NetworkID(id))
	return net != nil && validateUnused(view, net) != nil
}

// Status is the use of a network's addresses if no task can get one any more. It is nil otherwise, for networks that are not the cluster's, and on
// nodes that are no managers. (Newer API versions show it for every network.)
func (n *Networks) Status(id string) *network.Status {
	db, err := n.state.Store()
	if err != nil {
		return nil
	}
	view := db.View()
	net := view.Network(shoal.NetworkID(id))
	if net == nil {
		return nil
	}
	usage := n.exhausted(view, net)
	if usage == nil {
		return nil
	}
	out := &network.Status{IPAM: network.IPAMStatus{Subnets: network.SubnetStatuses{}}}
	for _, u := range usage {
		out.IPAM.Subnets[u.Subnet] = network.SubnetStatus{IPsInUse: u.InUse, DynamicIPsAvailable: u.Left}
	}
	return out
}

// validateOverlay refuses an overlay network that could work in no cluster, whatever other networks there are.
func validateOverlay(spec shoal.NetworkSpec) error {
	if !dnsName.MatchString(spec.Name) {
		return shoal.InvalidArgument("name must be valid as a DNS name component")
	}
	if spec.EnableIPv4 != nil && !*spec.EnableIPv4 {
		return server.BadRequest("IPv4 cannot be disabled in a Swarm scoped network")
	}
	for _, p := range subnets(&shoal.Network{Spec: spec}) {
		if p.Addr().Is6() && !spec.EnableIPv6 {
			return server.BadRequest("invalid network config:\ninvalid subnet %s: IPv6 has not been enabled for this network", p)
		}
	}
	if spec.ConfigFrom != "" {
		return server.Errorf(http.StatusNotImplemented, "overlay networks from a configuration-only network are not supported")
	}
	return nil
}

// validateUnique refuses a network whose name or subnets another network of the cluster has, or whose subnets a local one has.
func validateUnique(v store.View, local []shoal.Network, net *shoal.Network) error {
	if v.NetworkByName(net.Spec.Name) != nil {
		return server.Errorf(http.StatusConflict, "network with name %s already exists", net.Spec.Name)
	}
	if in := v.IngressNetwork(); net.Spec.Ingress && in != nil {
		return shoal.AlreadyExists("ingress network (%s) is already present", in.ID)
	}
	var taken []netip.Prefix
	for i := range local {
		taken = append(taken, subnets(&local[i])...)
	}
	for _, other := range v.Networks() {
		taken = append(taken, subnets(other)...)
	}
	for _, own := range subnets(net) {
		if slices.ContainsFunc(taken, own.Overlaps) {
			return server.Errorf(http.StatusForbidden, "invalid pool request: Pool overlaps with other one on this address space")
		}
		taken = append(taken, own)
	}
	return nil
}

// subnets is the subnets that a network has or asks for.
func subnets(net *shoal.Network) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range slices.Concat(net.IPAM, net.Spec.IPAM) {
		if s.Subnet.IsValid() {
			out = append(out, s.Subnet)
		}
	}
	return out
}

// validateUnused refuses to remove a network that a service or an attached container is on.
func validateUnused(v store.View, net *shoal.Network) error {
	for _, s := range v.Services() {
		attached := slices.ContainsFunc(s.Spec.AttachedNetworks(), func(a shoal.NetworkAttachmentSpec) bool { return a.Target == string(net.ID) })
		switch {
		case net.Spec.Ingress && (attached || s.Spec.Endpoint.HasIngressPort()):
			return shoal.FailedPrecondition("ingress network cannot be removed because service %s depends on it", s.ID)
		case attached:
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

// toAPINetwork is a network as the API shows it within a task.
func toAPINetwork(n *shoal.Network) swarm.Network {
	out := swarm.Network{
		ID: string(n.ID), Meta: toAPIMeta(n.Meta),
		Spec: swarm.NetworkSpec{
			Annotations:         swarm.Annotations{Name: n.Spec.Name, Labels: convert.NonNil(n.Spec.Labels)},
			DriverConfiguration: &swarm.Driver{Options: n.Spec.Options},
			IPv6Enabled:         convert.HasIPv6(n), Internal: n.Spec.Internal, Attachable: n.Spec.Attachable, Ingress: n.Spec.Ingress,
			IPAMOptions: &swarm.IPAMOptions{Driver: swarm.Driver{Name: n.Spec.IPAMDriver, Options: n.Spec.IPAMOptions}, Configs: convert.List(n.Spec.IPAM, toAPIIPAMConfig)},
			Scope:       shoal.ScopeSwarm,
		},
		DriverState: swarm.Driver{Name: shoal.DriverOverlay, Options: convert.ToAPINetworkOptions(n)},
		IPAMOptions: &swarm.IPAMOptions{Driver: swarm.Driver{Name: "default"}, Configs: convert.List(n.IPAM, toAPIIPAMConfig)},
	}
	if !n.Spec.Ingress {
		out.Spec.DriverConfiguration.Name = shoal.DriverOverlay
	}
	return out
}

func toAPIIPAMConfig(s shoal.Subnet) swarm.IPAMConfig {
	return swarm.IPAMConfig{Subnet: s.Subnet, Range: s.Range, Gateway: s.Gateway}
}
