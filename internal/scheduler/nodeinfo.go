package scheduler

import (
	"github.com/shoal-dev/shoal/internal/shoal"
)

// nodeInfo is a node and the resources that its tasks use.
type nodeInfo struct {
	node      *shoal.Node
	tasks     int
	ofService map[shoal.ServiceID]int
	nanoCPUs  int64
	memory    int64
	generic   map[string]int64
	ports     map[portKey]int
}

type portKey struct {
	protocol shoal.Protocol
	port     uint16
}

// count adds a task (change is 1) or removes it (change is -1).
func (n *nodeInfo) count(t *shoal.Task, change int) {
	if t.DesiredState <= shoal.TaskComplete { // tasks that are to stop still use resources, but do not count for spreading
		n.tasks += change
		add(&n.ofService, t.ServiceID, change)
	}
	if r := reservations(t); r != nil {
		n.nanoCPUs += int64(change) * r.NanoCPUs
		n.memory += int64(change) * r.MemoryBytes
		for kind, amount := range shoal.GenericCounts(r.Generic) {
			add(&n.generic, kind, int64(change)*amount)
		}
	}
	for _, p := range t.Ports {
		if p.Mode == shoal.PublishHost && p.Published != 0 {
			add(&n.ports, portKey{p.Protocol, p.Published}, change)
		}
	}
}

// add adds n to a count. The map is created when needed and never holds zeros.
func add[K comparable, N int | int64](counts *map[K]N, key K, n N) {
	if *counts == nil {
		*counts = map[K]N{}
	}
	if (*counts)[key] += n; (*counts)[key] == 0 {
		delete(*counts, key)
	}
}

// has tells whether the node has the resources free.
func (n *nodeInfo) has(r *shoal.Resources) bool {
	all := n.node.Description.Resources
	if n.nanoCPUs+r.NanoCPUs > all.NanoCPUs && r.NanoCPUs > 0 {
		return false
	}
	if n.memory+r.MemoryBytes > all.MemoryBytes && r.MemoryBytes > 0 {
		return false
	}
	if len(r.Generic) == 0 {
		return true
	}
	have := shoal.GenericCounts(all.Generic)
	for kind, amount := range shoal.GenericCounts(r.Generic) {
		if n.generic[kind]+amount > have[kind] {
			return false
		}
	}
	return true
}

func (n *nodeInfo) hasPorts(ports []shoal.Port) bool {
	for _, p := range ports {
		if p.Published != 0 && n.ports[portKey{p.Protocol, p.Published}] > 0 {
			return false
		}
	}
	return true
}

func reservations(t *shoal.Task) *shoal.Resources {
	if t.Spec.Resources == nil {
		return nil
	}
	return t.Spec.Resources.Reservations
}
