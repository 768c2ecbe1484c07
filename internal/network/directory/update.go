package directory

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Update takes in a delta that is not full.
func (d *Directory) Update(delta *shoal.TableDelta) {
	// What is derived from an endpoint depends on peers and networks. They change rarely; then everything is derived again.
	all := delta.NodeID != d.table.NodeID || len(delta.Networks)+len(delta.RemovedNetworks)+len(delta.Peers)+len(delta.RemovedPeers) > 0
	changed, services := map[shoal.EndpointKey]bool{}, map[shoal.ServiceID]bool{}
	markKeys(changed, delta.Endpoints, delta.RemovedEndpoints)
	markKeys(services, delta.Services, delta.RemovedServices)
	if all {
		markKeys(changed, d.table.Endpoints, nil)
		markKeys(services, d.table.Services, nil)
	}
	for key := range changed {
		d.retractEndpoint(key, services)
	}
	delta.ApplyTo(&d.table)
	if all {
		d.findIngressNetwork()
	}
	for key := range changed {
		d.deriveEndpoint(key, services)
	}
	d.renameTasks(delta)
	for id := range services {
		d.retractService(id)
	}
	for id := range services {
		d.deriveService(id)
	}
}

// renameTasks updates the DNS records of the tasks of services that have changed, as the service's name and aliases are part of them.
func (d *Directory) renameTasks(delta *shoal.TableDelta) {
	services := map[shoal.ServiceID]bool{}
	markKeys(services, delta.Services, delta.RemovedServices)
	for id := range services {
		for key, e := range d.tasks[id] {
			d.records.SetEndpoint(key, e, d.table.Services[id])
		}
	}
}

// RemovedOnSuspects returns the addresses that a delta will remove and whose nodes do not answer, so cannot close connections themselves. They are by network,
// those on the mesh under "".
func (d *Directory) RemovedOnSuspects(delta *shoal.TableDelta) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, key := range delta.RemovedEndpoints {
		e, ok := d.table.Endpoints[key]
		if !ok || !d.suspects[e.NodeID] {
			continue
		}
		network := e.NetworkID
		if network == d.ingressID {
			network = ""
		}
		out[string(network)] = append(out[string(network)], d.addrs(e.Addr, e.Addr6)...)
	}
	return out
}

func markKeys[K comparable, V any](marked map[K]bool, put map[K]V, removed []K) {
	for key := range put {
		marked[key] = true
	}
	for _, key := range removed {
		marked[key] = true
	}
}

func (d *Directory) findIngressNetwork() {
	d.ingressID = ""
	for id, net := range d.table.Networks {
		if net.Spec.Ingress {
			d.ingressID = id
		}
	}
}

func (d *Directory) overlay(network shoal.NetworkID) *overlay {
	o := d.overlays[network]
	if o == nil {
		o = &overlay{}
		d.overlays[network] = o
	}
	return o
}

// addrs is the two addresses, without the IPv6 one if there is none or the node's kernel has no IPv6.
func (d *Directory) addrs(addr, addr6 netip.Prefix) []netip.Addr {
	if !d.ipv6 {
		return ipam.Addrs(addr)
	}
	return ipam.Addrs(addr, addr6)
}
