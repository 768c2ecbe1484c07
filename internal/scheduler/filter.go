package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// filter is one condition on nodes. Its explanation is Docker's text.
type filter struct {
	pass    func(h *nodeInfo) bool
	explain func(nodes int) string
	// addStatic says that the condition is on the node alone, not on what runs there.
	static bool
}

// requirements is what tasks of one spec ask of a node.
type requirements struct {
	service     shoal.ServiceID
	filters     []filter
	preferences []string
	// class is equal for requirements with the same static filters and preferences.
	class string
}

// requirementsOf is what a task asks for. The filters are in the order in which Docker tries them, which the explanation shows.
func requirementsOf(v store.View, t *shoal.Task) *requirements {
	d := &requirements{service: t.ServiceID}
	d.addStatic("", ready, "1 node not available for new tasks", "%d nodes not available for new tasks")
	if r := reservations(t); r != nil {
		d.addDynamic(func(h *nodeInfo) bool { return h.has(r) }, plural("insufficient resources on 1 node", "insufficient resources on %d nodes"))
	}
	if wanted := drivers(v, t); len(wanted) > 0 {
		d.addStatic(fmt.Sprint("drivers ", wanted), func(n *shoal.Node) bool { return hasDrivers(n, wanted) },
			"missing plugin on 1 node", "missing plugin on %d nodes")
	}
	place := t.Spec.Placement
	if place != nil {
		d.placement(place)
	}
	if len(t.Ports) > 0 {
		d.addDynamic(func(h *nodeInfo) bool { return h.hasPorts(t.Ports) },
			plural("host-mode port already in use on 1 node", "host-mode port already in use on %d nodes"))
	}
	if place != nil && place.MaxReplicas > 0 {
		d.addDynamic(func(h *nodeInfo) bool { return uint64(h.ofService[d.service]) < place.MaxReplicas },
			func(int) string { return "max replicas per node limit exceed" })
	}
	return d
}

func (d *requirements) placement(p *shoal.Placement) {
	if constraints, err := shoal.ParseConstraints(p.Constraints); err == nil && len(constraints) > 0 {
		d.addStatic(fmt.Sprintf("constraints %q", p.Constraints), func(n *shoal.Node) bool {
			return !slices.ContainsFunc(constraints, func(c shoal.Constraint) bool { return !c.SatisfiedBy(n) })
		}, "scheduling constraints not satisfied on 1 node", "scheduling constraints not satisfied on %d nodes")
	}
	if len(p.Platforms) > 0 {
		d.addStatic(fmt.Sprintf("platforms %q", p.Platforms), func(n *shoal.Node) bool {
			return slices.ContainsFunc(p.Platforms, func(want shoal.Platform) bool { return fits(want, n.Description.Platform) })
		}, "unsupported platform on 1 node", "unsupported platform on %d nodes")
	}
	for _, preference := range p.Preferences {
		d.preferences = append(d.preferences, preference.SpreadOver)
	}
	if len(d.preferences) > 0 {
		d.class += fmt.Sprintf("over %q", d.preferences)
	}
}

func (d *requirements) addStatic(class string, pass func(*shoal.Node) bool, one, many string) {
	d.class += class
	d.filters = append(d.filters, filter{func(h *nodeInfo) bool { return pass(h.node) }, plural(one, many), true})
}

func (d *requirements) addDynamic(pass func(*nodeInfo) bool, explain func(int) string) {
	d.filters = append(d.filters, filter{pass, explain, false})
}

// firstFailed is the index of the first filter that a node does not pass, -1 if it passes all.
func (d *requirements) firstFailed(h *nodeInfo) int {
	return slices.IndexFunc(d.filters, func(f filter) bool { return !f.pass(h) })
}

// failsStatic tells whether a node fails a static filter.
func (d *requirements) failsStatic(h *nodeInfo) bool {
	return slices.ContainsFunc(d.filters, func(f filter) bool { return f.static && !f.pass(h) })
}

// explanation says why none of the nodes can run a task: how many failed at which filter, the most frequent first.
func (d *requirements) explanation(nodes []*nodeInfo) string {
	failed := make([]int, len(d.filters))
	for _, h := range nodes {
		if i := d.firstFailed(h); i >= 0 {
			failed[i]++
		}
	}
	order := make([]int, len(failed))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(failed[b], failed[a]) })
	var reasons []string
	for _, i := range order {
		if failed[i] > 0 {
			reasons = append(reasons, d.filters[i].explain(failed[i]))
		}
	}
	if len(reasons) == 0 {
		return "no suitable node"
	}
	return "no suitable node (" + strings.Join(reasons, "; ") + ")"
}

func plural(one, many string) func(int) string {
	return func(n int) string {
		if n == 1 {
			return one
		}
		return fmt.Sprintf(many, n)
	}
}

func ready(n *shoal.Node) bool {
	return n.Ready() && (n.Spec.Availability == shoal.AvailabilityActive || n.Spec.Availability == "")
}

// fits compares platforms; an empty field of want fits every platform.
func fits(want, have shoal.Platform) bool {
	return (want.OS == "" || strings.EqualFold(want.OS, have.OS)) &&
		(want.Architecture == "" || shoal.NormalArchitecture(want.Architecture) == shoal.NormalArchitecture(have.Architecture))
}

// drivers is what a task needs of its node to mount its volumes, reach its networks and write its log.
func drivers(v store.View, t *shoal.Task) []shoal.Plugin {
	var all []shoal.Plugin
	need := func(kind, name string) {
		if p := (shoal.Plugin{Type: kind, Name: name}); name != "" && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if c := t.Spec.Container; c != nil {
		for _, m := range c.Mounts {
			if m.Type == "volume" && m.Volume != nil && m.Volume.Driver != nil {
				need("Volume", m.Volume.Driver.Name)
			}
		}
	}
	for _, at := range t.Networks {
		if n := v.Network(at.NetworkID); n != nil {
			need("Network", n.Spec.Driver)
		}
	}
	if l := t.Spec.LogDriver; l != nil {
		need("Log", l.Name)
	}
	return all
}

// hasDrivers tells whether a node has the drivers. If a node reports no driver of a kind at all, it is taken to have them.
func hasDrivers(n *shoal.Node, wanted []shoal.Plugin) bool {
	for _, want := range wanted {
		has, tells := false, false
		for _, p := range n.Description.Plugins {
			tells = tells || p.Type == want.Type
			has = has || p == want
		}
		if tells && !has {
			return false
		}
	}
	return true
}
