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

// count adds a task (n is 1) or removes it (n is -1).
func (h *nodeInfo) count(t *shoal.Task, n int) {
	if t.DesiredState <= shoal.TaskComplete { // tasks that are to stop still use resources, but do not count for spreading
		h.tasks += n
		add(&h.ofService, t.ServiceID, n)
	}
	if r := reservations(t); r != nil {
		h.nanoCPUs += int64(n) * r.NanoCPUs
		h.memory += int64(n) * r.MemoryBytes
		for kind, amount := range genericCounts(r.Generic) {
			add(&h.generic, kind, int64(n)*amount)
		}
	}
	for _, p := range t.Ports {
		if p.Mode == shoal.PublishHost && p.Published != 0 {
			add(&h.ports, portKey{p.Protocol, p.Published}, n)
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

func (h *nodeInfo) has(r *shoal.Resources) bool {
	all := h.node.Description.Resources
	if h.nanoCPUs+r.NanoCPUs > all.NanoCPUs && r.NanoCPUs > 0 {
		return false
	}
	if h.memory+r.MemoryBytes > all.MemoryBytes && r.MemoryBytes > 0 {
		return false
	}
	if len(r.Generic) == 0 {
		return true
	}
	have := genericCounts(all.Generic)
	for kind, n := range genericCounts(r.Generic) {
		if h.generic[kind]+n > have[kind] {
			return false
		}
	}
	return true
}

func (h *nodeInfo) hasPorts(ports []shoal.Port) bool {
	for _, p := range ports {
		if p.Published != 0 && h.ports[portKey{p.Protocol, p.Published}] > 0 {
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

// genericCounts counts pieces: a named one is one, an amount is as many.
func genericCounts(all []shoal.GenericResource) map[string]int64 {
	if len(all) == 0 {
		return nil
	}
	counts := map[string]int64{}
	for _, g := range all {
		if g.Named != "" {
			counts[g.Kind]++
		} else {
			counts[g.Kind] += g.Count
		}
	}
	return counts
}
