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
	pass    func(n *nodeInfo) bool
	explain func(nodes int) string
	// addStatic says that the condition is on the node alone, not on what runs there.
	static bool
}

// requirements is what tasks of one spec ask of a node.
type requirements struct {
	service     shoal.ServiceID
	specVersion uint64 // of the service
	filters     []filter
	preferences []string
	// class is equal for requirements with the same static filters and preferences.
	class string
}

// requirementsOf is what a task asks for. The filters are in the order in which Docker tries them, which the explanation shows.
func requirementsOf(v store.View, t *shoal.Task) *requirements {
	req := &requirements{service: t.ServiceID, specVersion: t.SpecVersion}
	req.addStatic("", ready, "1 node not available for new tasks", "%d nodes not available for new tasks")
	if r := reservations(t); r != nil {
		req.addDynamic(func(n *nodeInfo) bool { return n.has(r) }, plural("insufficient resources on 1 node", "insufficient resources on %d nodes"))
	}
	if wanted := drivers(v, t); len(wanted) > 0 {
		req.addStatic(fmt.Sprint("drivers ", wanted), func(n *shoal.Node) bool { return hasDrivers(n, wanted) },
			"missing plugin on 1 node", "missing plugin on %d nodes")
	}
	place := t.Spec.Placement
	if place != nil {
		req.placement(place)
	}
	if len(t.Ports) > 0 {
		req.addDynamic(func(n *nodeInfo) bool { return n.hasPorts(t.Ports) },
			plural("host-mode port already in use on 1 node", "host-mode port already in use on %d nodes"))
	}
	if place != nil && place.MaxReplicas > 0 {
		req.addDynamic(func(n *nodeInfo) bool { return uint64(n.ofService[req.service]) < place.MaxReplicas },
			func(int) string { return "max replicas per node limit exceed" })
	}
	return req
}

func (req *requirements) placement(p *shoal.Placement) {
	if constraints, err := shoal.ParseConstraints(p.Constraints); err == nil && len(constraints) > 0 {
		req.addStatic(fmt.Sprintf("constraints %q", p.Constraints), func(n *shoal.Node) bool {
			return !slices.ContainsFunc(constraints, func(c shoal.Constraint) bool { return !c.SatisfiedBy(n) })
		}, "scheduling constraints not satisfied on 1 node", "scheduling constraints not satisfied on %d nodes")
	}
	if len(p.Platforms) > 0 {
		req.addStatic(fmt.Sprintf("platforms %q", p.Platforms), func(n *shoal.Node) bool {
			return slices.ContainsFunc(p.Platforms, func(want shoal.Platform) bool { return fits(want, n.Description.Platform) })
		}, "unsupported platform on 1 node", "unsupported platform on %d nodes")
	}
	for _, preference := range p.Preferences {
		req.preferences = append(req.preferences, preference.SpreadOver)
	}
	if len(req.preferences) > 0 {
		req.class += fmt.Sprintf("over %q", req.preferences)
	}
}

func (req *requirements) addStatic(class string, pass func(*shoal.Node) bool, one, many string) {
	req.class += class
	req.filters = append(req.filters, filter{func(n *nodeInfo) bool { return pass(n.node) }, plural(one, many), true})
}

func (req *requirements) addDynamic(pass func(*nodeInfo) bool, explain func(int) string) {
	req.filters = append(req.filters, filter{pass, explain, false})
}

// firstFailed is the index of the first filter that a node does not pass, -1 if it passes all.
func (req *requirements) firstFailed(n *nodeInfo) int {
	return slices.IndexFunc(req.filters, func(f filter) bool { return !f.pass(n) })
}

// failsStatic tells whether a node fails a static filter.
func (req *requirements) failsStatic(n *nodeInfo) bool {
	return slices.ContainsFunc(req.filters, func(f filter) bool { return f.static && !f.pass(n) })
}

// explanation says why none of the nodes can run a task: how many failed at which filter, the most frequent first.
func (req *requirements) explanation(nodes []*nodeInfo) string {
	failed := make([]int, len(req.filters))
	for _, n := range nodes {
		if i := req.firstFailed(n); i >= 0 {
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
			reasons = append(reasons, req.filters[i].explain(failed[i]))
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
	return n.Ready() && !n.Status.Absent && (n.Spec.Availability == shoal.AvailabilityActive || n.Spec.Availability == "")
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
	if l := t.LogDriver(); l != nil && l.Name != "none" {
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
