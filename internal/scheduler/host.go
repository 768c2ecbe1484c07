package scheduler

import (
	"github.com/shoal-dev/shoal/internal/shoal"
)

// host is a node and what its tasks take of it.
type host struct {
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

// count adds a task, or takes it away when n is -1.
func (h *host) count(t *shoal.Task, n int) {
	if t.DesiredState <= shoal.TaskComplete { // what is on its way out still holds resources, but is no load
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

// add counts in a map that is made when needed and holds no zeros.
func add[K comparable, N int | int64](counts *map[K]N, key K, n N) {
	if *counts == nil {
		*counts = map[K]N{}
	}
	if (*counts)[key] += n; (*counts)[key] == 0 {
		delete(*counts, key)
	}
}

func (h *host) has(r *shoal.Resources) bool {
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

func (h *host) hasPorts(ports []shoal.Port) bool {
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
