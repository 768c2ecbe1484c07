package directory

import (
	"cmp"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// retractEndpoint removes what was derived from an endpoint, and adds its service to services, those to derive again.
func (d *Directory) retractEndpoint(key shoal.EndpointKey, services map[shoal.ServiceID]bool) {
	e, ok := d.table.Endpoints[key]
	if !ok {
		return
	}
	o := d.overlay(e.NetworkID)
	for _, a := range d.addrs(e.Addr, e.Addr6) {
		o.remotes, d.meshNextHops = o.remotes.Delete(a), d.meshNextHops.Delete(a)
	}
	if d.endpointCounts[e.NodeID]--; d.endpointCounts[e.NodeID] == 0 {
		delete(d.endpointCounts, e.NodeID)
	}
	if e.ServiceID != "" {
		services[e.ServiceID] = true
		delete(d.tasks[e.ServiceID], key)
	}
	d.countEncrypted(e, -1)
	d.records.RemoveEndpoint(key)
	if o.remotes.Len()+o.services.Len() == 0 {
		delete(d.overlays, e.NetworkID)
	}
}

// deriveEndpoint adds what follows from an endpoint, and adds its service to services, those to derive again.
func (d *Directory) deriveEndpoint(key shoal.EndpointKey, services map[shoal.ServiceID]bool) {
	e, ok := d.table.Endpoints[key]
	if !ok {
		return
	}
	peer := d.table.Peers[e.NodeID]
	o, vtep := d.overlay(e.NetworkID), d.VTEP(e.NetworkID, peer)
	mac, err := cmp.Or(e.MAC, shoal.MACFor(e.Addr.Addr())), e.MAC.Err()
	if err != nil { // the others on its network are reached
		d.log.Warn("endpoint in the table has no valid MAC, this node sends it nothing", "network", e.NetworkID, "node", e.NodeID, "address", e.Addr, "err", err)
	}
	remote := e.NodeID != d.table.NodeID && vtep.IsValid() && err == nil
	for _, a := range d.addrs(e.Addr, e.Addr6) {
		if remote {
			o.remotes = o.remotes.Set(a, dataplane.Remote{MAC: mac, VTEP: vtep})
		}
		via := peer.IngressAddr
		if a.Is6() {
			via = peer.IngressAddr6
		}
		if e.NetworkID == d.ingressID && e.NodeID != d.table.NodeID && via.IsValid() {
			d.meshNextHops = d.meshNextHops.Set(a, via)
		}
	}
	d.endpointCounts[e.NodeID]++
	d.countEncrypted(e, 1)
	if e.ServiceID != "" {
		if d.tasks[e.ServiceID] == nil {
			d.tasks[e.ServiceID] = map[shoal.EndpointKey]shoal.Endpoint{}
		}
		services[e.ServiceID] = true
		d.tasks[e.ServiceID][key] = e
	}
	d.records.SetEndpoint(key, e, d.table.Services[e.ServiceID])
}
