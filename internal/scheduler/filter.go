package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// filter is one condition on hosts. Its explanation is Docker's.
type filter struct {
	pass    func(h *host) bool
	explain func(nodes int) string
}

// filtered is the hosts that can run a task; when there are none, the text tells how many failed at which condition, the
// most frequent first.
func filtered(hosts []*host, t *shoal.Task) ([]*host, string) {
	filters := filtersFor(t)
	failed := make([]int, len(filters))
	var fit []*host
hosts:
	for _, h := range hosts {
		for i, f := range filters {
			if !f.pass(h) {
				failed[i]++
				continue hosts
			}
		}
		fit = append(fit, h)
	}
	if len(fit) > 0 {
		return fit, ""
	}
	order := make([]int, len(filters))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(failed[b], failed[a]) })
	var reasons []string
	for _, i := range order {
		if failed[i] > 0 {
			reasons = append(reasons, filters[i].explain(failed[i]))
		}
	}
	if len(reasons) == 0 {
		return nil, "no suitable node"
	}
	return nil, "no suitable node (" + strings.Join(reasons, "; ") + ")"
}

func plural(one, many string) func(int) string {
	return func(n int) string {
		if n == 1 {
			return one
		}
		return fmt.Sprintf(many, n)
	}
}

// filtersFor is the conditions that a task sets, in the order in which they are tried.
func filtersFor(t *shoal.Task) []filter {
	filters := []filter{{ready, plural("1 node not available for new tasks", "%d nodes not available for new tasks")}}
	if r := reservations(t); r != nil {
		filters = append(filters, filter{func(h *host) bool { return h.has(r) }, plural("insufficient resources on 1 node", "insufficient resources on %d nodes")})
	}
	if p := t.Spec.Placement; p != nil {
		filters = append(filters, placementFilters(p)...)
	}
	if len(t.Ports) > 0 {
		filters = append(filters, filter{func(h *host) bool { return h.hasPorts(t.Ports) },
			plural("host-mode port already in use on 1 node", "host-mode port already in use on %d nodes")})
	}
	if p := t.Spec.Placement; p != nil && p.MaxReplicas > 0 {
		filters = append(filters, filter{
			func(h *host) bool { return uint64(h.ofService[t.ServiceID]) < p.MaxReplicas },
			func(int) string { return "max replicas per node limit exceed" },
		})
	}
	return filters
}

func placementFilters(p *shoal.Placement) []filter {
	var filters []filter
	if constraints, err := shoal.ParseConstraints(p.Constraints); err == nil && len(constraints) > 0 {
		filters = append(filters, filter{func(h *host) bool {
			for _, c := range constraints {
				if !c.SatisfiedBy(h.node) {
					return false
				}
			}
			return true
		}, plural("scheduling constraints not satisfied on 1 node", "scheduling constraints not satisfied on %d nodes")})
	}
	if len(p.Platforms) > 0 {
		filters = append(filters, filter{func(h *host) bool {
			return slices.ContainsFunc(p.Platforms, func(want shoal.Platform) bool { return fits(want, h.node.Description.Platform) })
		}, plural("unsupported platform on 1 node", "unsupported platform on %d nodes")})
	}
	return filters
}

func ready(h *host) bool {
	return h.node.Ready() && (h.node.Spec.Availability == shoal.AvailabilityActive || h.node.Spec.Availability == "")
}

// fits compares platforms; what is left empty fits all.
func fits(want, have shoal.Platform) bool {
	return (want.OS == "" || strings.EqualFold(want.OS, have.OS)) &&
		(want.Architecture == "" || shoal.NormalArchitecture(want.Architecture) == shoal.NormalArchitecture(have.Architecture))
}

func (h *host) has(r *shoal.Resources) bool {
	all := h.node.Description.Resources
	if h.reserved.NanoCPUs+r.NanoCPUs > all.NanoCPUs && r.NanoCPUs > 0 {
		return false
	}
	if h.reserved.MemoryBytes+r.MemoryBytes > all.MemoryBytes && r.MemoryBytes > 0 {
		return false
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
	return !slices.ContainsFunc(ports, func(p shoal.Port) bool {
		return p.Published != 0 && h.ports[portKey{p.Protocol, p.Published}]
	})
}
