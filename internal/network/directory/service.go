package directory

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// serviceRoutes is the virtual addresses and published ports that were derived from a service.
type serviceRoutes struct {
	vips  map[shoal.NetworkID][]netip.Addr // by network
	ports []dataplane.PortKey
}

// retractService removes the virtual addresses and ports that a service no longer has.
func (d *Directory) retractService(id shoal.ServiceID) {
	old, now := d.routes[id], d.serviceRoutesOf(id)
	for network, vips := range old.vips {
		o := d.overlay(network)
		for _, vip := range vips {
			if !slices.Contains(now.vips[network], vip) {
				o.services = o.services.Delete(vip)
			}
		}
	}
	for _, port := range old.ports {
		if !slices.Contains(now.ports, port) {
			d.ports = d.ports.Delete(port)
		}
	}
	delete(d.routes, id)
	if len(d.tasks[id]) == 0 {
		delete(d.tasks, id)
	}
}

func (d *Directory) serviceRoutesOf(id shoal.ServiceID) serviceRoutes {
	s := d.table.Services[id]
	e := serviceRoutes{vips: map[shoal.NetworkID][]netip.Addr{}}
	for network, vip := range s.VIPs {
		e.vips[network] = d.addrs(vip, s.VIPs6[network])
	}
	for _, p := range s.Ports {
		if p.Mode != shoal.PublishHost && p.Published != 0 {
			e.ports = append(e.ports, dataplane.PortKey{Protocol: p.Protocol, Port: p.Published})
		}
	}
	return e
}

// deriveService derives where connections to the service go now, and what it is called.
func (d *Directory) deriveService(id shoal.ServiceID) {
	s, ok := d.table.Services[id]
	if !ok {
		d.records.RemoveService(id)
		return
	}
	d.records.SetService(id, s)
	e := d.serviceRoutesOf(id)
	for network, vips := range e.vips {
		backends := d.backends(id, network)
		for _, vip := range vips {
			d.setVIP(network, vip, backends)
		}
	}
	backends := d.backends(id, d.ingressID)
	for _, p := range s.Ports {
		if p.Mode != shoal.PublishHost && p.Published != 0 {
			d.setPort(p, backends)
		}
	}
	d.routes[id] = e
}

func (d *Directory) setVIP(network shoal.NetworkID, vip netip.Addr, backends []shoal.Endpoint) {
	v := &dataplane.VIP{Addr: vip}
	for _, e := range backends {
		for _, a := range d.addrs(e.Addr, e.Addr6) {
			if a.Is4() == vip.Is4() {
				v.Backends = append(v.Backends, a)
			}
		}
	}
	o := d.overlay(network)
	if was, ok := o.services.Get(vip); !ok || !slices.Equal(was.Backends, v.Backends) {
		o.services = o.services.Set(vip, v)
	}
}

func (d *Directory) setPort(port shoal.MeshPort, backends []shoal.Endpoint) {
	key, p := dataplane.PortKey{Protocol: port.Protocol, Port: port.Published}, &dataplane.MeshPort{Rule: port.Rule}
	for _, e := range backends {
		for _, a := range d.addrs(e.Addr, e.Addr6) {
			if e.NodeID == d.table.NodeID {
				a = d.localTasks[a] // invalid while the task has no sandbox here
			}
			if a.IsValid() {
				p.Backends = append(p.Backends, dataplane.Backend{Addr: a, Port: port.Target})
			}
		}
	}
	if was, ok := d.ports.Get(key); !ok || !reflect.DeepEqual(was, p) {
		d.ports = d.ports.Set(key, p)
	}
}

// backends is where new connections to the service may go on the network, in the order of addresses: its ready endpoints, without those
// on nodes that do not answer, unless none would be left.
func (d *Directory) backends(service shoal.ServiceID, network shoal.NetworkID) []shoal.Endpoint {
	var all, trusted []shoal.Endpoint
	for _, e := range d.tasks[service] {
		if e.NetworkID != network || e.State != shoal.EndpointReady || !e.Addr.IsValid() {
			continue
		}
		all = append(all, e)
		if !d.suspects[e.NodeID] {
			trusted = append(trusted, e)
		}
	}
	if len(trusted) > 0 {
		all = trusted
	}
	slices.SortFunc(all, func(a, b shoal.Endpoint) int { return a.Addr.Addr().Compare(b.Addr.Addr()) })
	return all
}
