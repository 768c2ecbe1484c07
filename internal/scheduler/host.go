package scheduler

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// host is a node and what its tasks take of it.
type host struct {
	node      *shoal.Node
	tasks     int
	ofService map[shoal.ID]int
	reserved  shoal.Resources
	generic   map[string]int64
	ports     map[portKey]bool
}

type portKey struct {
	protocol shoal.Protocol
	port     uint16
}

// hostsOf is all nodes with their load, by ID.
func hostsOf(v store.View) []*host {
	var hosts []*host
	for _, n := range v.Nodes() {
		h := &host{node: n, ofService: map[shoal.ID]int{}, generic: map[string]int64{}, ports: map[portKey]bool{}}
		for _, t := range v.TasksOnNode(n.ID) {
			if counts(t) {
				h.add(t)
			}
		}
		hosts = append(hosts, h)
	}
	slices.SortFunc(hosts, func(a, b *host) int { return cmp.Compare(a.node.ID, b.node.ID) })
	return hosts
}

func (h *host) add(t *shoal.Task) {
	if t.DesiredState <= shoal.TaskComplete { // what is on its way out still holds resources, but is no load
		h.tasks++
		h.ofService[t.ServiceID]++
	}
	if r := reservations(t); r != nil {
		h.reserved.NanoCPUs += r.NanoCPUs
		h.reserved.MemoryBytes += r.MemoryBytes
		for kind, n := range genericCounts(r.Generic) {
			h.generic[kind] += n
		}
	}
	for _, p := range t.Ports {
		if p.Mode == shoal.PublishHost && p.Published != 0 {
			h.ports[portKey{p.Protocol, p.Published}] = true
		}
	}
}

func reservations(t *shoal.Task) *shoal.Resources {
	if t.Spec.Resources == nil {
		return nil
	}
	return t.Spec.Resources.Reservations
}

// genericCounts counts pieces: a named one is one, an amount is as many.
func genericCounts(all []shoal.GenericResource) map[string]int64 {
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

// spread picks the host on which one more task of the service does least harm to an even distribution: over the values of
// the placement preferences first, then by tasks of the service, then by all tasks.
func spread(hosts []*host, t *shoal.Task) *host {
	if t.Spec.Placement != nil {
		for _, preference := range t.Spec.Placement.Preferences {
			hosts = emptiestBranch(hosts, preference.SpreadOver, t.ServiceID)
		}
	}
	return slices.MinFunc(hosts, func(a, b *host) int {
		return cmp.Or(cmp.Compare(a.ofService[t.ServiceID], b.ofService[t.ServiceID]), cmp.Compare(a.tasks, b.tasks), cmp.Compare(a.node.ID, b.node.ID))
	})
}

// emptiestBranch groups hosts by an attribute and returns the group with the fewest tasks of the service.
func emptiestBranch(hosts []*host, attribute string, service shoal.ID) []*host {
	branches := map[string][]*host{}
	load := map[string]int{}
	for _, h := range hosts {
		value, _ := shoal.NodeAttribute(h.node, attribute)
		branches[value] = append(branches[value], h)
		load[value] += h.ofService[service]
	}
	best, found := "", false
	for value := range branches {
		if !found || cmp.Or(cmp.Compare(load[value], load[best]), cmp.Compare(value, best)) < 0 {
			best, found = value, true
		}
	}
	return branches[best]
}
