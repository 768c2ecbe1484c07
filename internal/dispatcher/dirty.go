package dispatcher

import (
	"maps"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// dirtySet is what may have changed of a node's table since it was last sent.
type dirtySet struct {
	tasks    map[shoal.TaskID]bool
	services map[shoal.ServiceID]bool
	own      bool // a task on the node itself is among them, so the node may have joined or left networks
	all      bool // anything may have changed
}

func newDirtySet() dirtySet {
	return dirtySet{tasks: map[shoal.TaskID]bool{}, services: map[shoal.ServiceID]bool{}}
}

func (s dirtySet) empty() bool { return !s.all && len(s.tasks)+len(s.services) == 0 }

// markTaskDirtyLocked marks a task that has changed in all sessions.
func (d *Dispatcher) markTaskDirtyLocked(id shoal.TaskID, old, now *shoal.Task) {
	for node, s := range d.sessions {
		s.dirty.tasks[id] = true
		s.dirty.own = s.dirty.own || old != nil && old.NodeID == node || now != nil && now.NodeID == node
	}
}

func (d *Dispatcher) markAllDirtyLocked() {
	for _, s := range d.sessions {
		s.dirty.all = true
	}
}

// tableDelta turns the table last sent to a node into TableOf the view. As long as the node takes part in the same networks, it looks
// only at what was touched.
func tableDelta(sent *shoal.Table, view store.View, node shoal.NodeID, dirty dirtySet) shoal.TableDelta {
	if dirty.all || dirty.own && !sameNetworks(sent, view, node) {
		delta := shoal.Difference(*sent, TableOf(view, node))
		delta.Full = sent.Version == 0
		return delta
	}
	before := shoal.Table{Services: map[shoal.ServiceID]shoal.ServiceEntry{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{}}
	now := shoal.Table{Version: view.Revision(), NodeID: node, DataPathPort: sent.DataPathPort, TunnelSecret: sent.TunnelSecret, Networks: sent.Networks,
		Services: map[shoal.ServiceID]shoal.ServiceEntry{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{}}
	for id := range dirty.tasks {
		if task := view.Task(id); task != nil {
			host := view.Node(task.NodeID)
			addEndpoints(&now, task, host != nil && host.Ready())
		}
		for network := range sent.Networks {
			key := shoal.Endpoint{TaskID: id, NetworkID: network}.Key()
			if e, ok := sent.Endpoints[key]; ok {
				before.Endpoints[key] = e
			}
		}
	}
	for id := range dirty.services {
		if s := view.Service(id); s != nil {
			addService(&now, s)
		}
		if entry, ok := sent.Services[id]; ok {
			before.Services[id] = entry
		}
	}
	now.Networks = nil // as they were
	return shoal.Difference(before, now)
}

// sameNetworks tells whether the node takes part in the networks that its table has. (That one of those itself changes touches all.)
func sameNetworks(sent *shoal.Table, view store.View, node shoal.NodeID) bool {
	now := shoal.Table{NodeID: node, Networks: map[shoal.NetworkID]shoal.Network{}}
	addNetworks(view, &now)
	return maps.EqualFunc(sent.Networks, now.Networks, func(shoal.Network, shoal.Network) bool { return true })
}
