package directory

import (
	"maps"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Suspects is the peers that are suspected. The map must not be changed.
func (d *Directory) Suspects() map[shoal.NodeID]bool { return d.suspects }

// SetSuspects replaces the set of suspected peers, which must not be changed afterwards, and updates the services with tasks on peers that
// changed.
func (d *Directory) SetSuspects(suspects map[shoal.NodeID]bool) {
	before := d.suspects
	d.suspects = suspects
	for id, tasks := range d.tasks {
		for _, e := range tasks {
			if before[e.NodeID] != suspects[e.NodeID] {
				d.deriveService(id)
				break
			}
		}
	}
}

// SetLocalTasks says where this node's tasks on the mesh are reached, by their ingress addresses. The map must not be changed afterwards.
func (d *Directory) SetLocalTasks(localTasks map[netip.Addr]netip.Addr) {
	if maps.Equal(d.localTasks, localTasks) {
		return
	}
	before := d.localTasks
	d.localTasks = localTasks
	for id, tasks := range d.tasks {
		for _, e := range tasks {
			if a := e.Addr.Addr(); e.NodeID == d.table.NodeID && e.NetworkID == d.ingressID && before[a] != localTasks[a] {
				d.deriveService(id)
				break
			}
		}
	}
}
