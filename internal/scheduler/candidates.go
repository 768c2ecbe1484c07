package scheduler

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// candidates ranks the nodes for tasks with the same static filters and placement preferences (see requirements.class): nodes that
// pass the static filters, by their number of tasks, grouped into a tree by the values of the preferences. While a run places
// tasks of a service, nodes and branches rank first by how many tasks of that service they have.
type candidates struct {
	requirements *requirements
	root         *branch
	positions    map[*nodeInfo]position
	used         uint64 // when, on the index's count of runs
}

// branch is the nodes that have the same values of the first preferences. It has either children, one for each value of the next
// preference, or, after the last preference, the nodes themselves in the order of their IDs.
type branch struct {
	parent   *branch
	at       int // in the parent's ranking
	value    string
	children []*branch
	nodes    []*nodeInfo
	order    ranking
	load     uint64 // tasks of the run's service, on nodes that could take one more
}

// position is where a node is ranked.
type position struct {
	leaf *branch
	at   int
}

// newCandidates gives a position to every node, also to those that do not pass the filters, so that a change of a node is a change
// of one key in the ranking.
func newCandidates(nodes []*nodeInfo, d *requirements) *candidates {
	p := &candidates{requirements: d, positions: make(map[*nodeInfo]position, len(nodes))}
	p.root = p.newBranch(nil, "", nodes, d.preferences)
	for _, h := range nodes {
		p.rankByLoad(h)
	}
	return p
}

func (p *candidates) newBranch(parent *branch, value string, nodes []*nodeInfo, preferences []string) *branch {
	b := &branch{parent: parent, value: value}
	if len(preferences) == 0 {
		b.nodes, b.order = nodes, newRanking(len(nodes))
		for i, h := range nodes {
			p.positions[h] = position{b, i}
		}
		return b
	}
	groups := map[string][]*nodeInfo{}
	for _, h := range nodes {
		value, _ := shoal.NodeAttribute(h.node, preferences[0])
		groups[value] = append(groups[value], h)
	}
	for value, members := range groups {
		b.children = append(b.children, p.newBranch(b, value, members, preferences[1:]))
	}
	slices.SortFunc(b.children, func(a, b *branch) int { return cmp.Compare(a.value, b.value) })
	b.order = newRanking(len(b.children))
	for i, child := range b.children {
		child.at = i
	}
	return b
}

// movedToOtherBranch tells whether a node's preference values no longer are those of its branch.
func (p *candidates) movedToOtherBranch(h *nodeInfo) bool {
	b := p.positions[h].leaf
	if b == nil {
		return true
	}
	for _, attribute := range slices.Backward(p.requirements.preferences) {
		if value, _ := shoal.NodeAttribute(h.node, attribute); value != b.value {
			return true
		}
		b = b.parent
	}
	return false
}

// rankByLoad ranks a node by its number of tasks, or takes it out if it fails a static filter.
func (p *candidates) rankByLoad(h *nodeInfo) {
	if h.node == nil || p.requirements.failsStatic(h) {
		p.set(h, absent)
	} else {
		p.set(h, uint64(h.tasks))
	}
}

func (p *candidates) set(h *nodeInfo, key uint64) {
	at, ranked := p.positions[h]
	if !ranked {
		return
	}
	at.leaf.order.set(at.at, key)
	at.leaf.updateParents()
}

// updateParents ranks a branch in its parent anew, and so on up to the root.
func (b *branch) updateParents() {
	for ; b.parent != nil; b = b.parent {
		key := b.load
		if b.order.empty() {
			key = absent
		}
		b.parent.order.set(b.at, key)
	}
}

// first is the node with the lowest rank, nil if there is none.
func (p *candidates) first() *nodeInfo {
	b := p.root
	if b.order.empty() {
		return nil
	}
	for b.children != nil {
		b = b.children[b.order.first()]
	}
	return b.nodes[b.order.first()]
}

// run places tasks of one service and one demand, one after another.
type run struct {
	index        *index
	candidates   *candidates
	requirements *requirements
	ranked       map[*nodeInfo]uint64 // the tasks of the service that count in a node's branches, for nodes whose rank is not by load alone
}

func (x *index) newRun(d *requirements) *run {
	r := &run{index: x, candidates: x.candidatesFor(d), requirements: d, ranked: map[*nodeInfo]uint64{}}
	for h := range x.ofService[d.service] {
		r.rank(h)
	}
	return r
}

// rank sets a node's rank by the tasks it has now. A node that cannot take another task of the run is taken out.
func (r *run) rank(h *nodeInfo) {
	if _, ranked := r.candidates.positions[h]; !ranked {
		return
	}
	key, load := uint64(absent), uint64(0)
	if h.node != nil && r.requirements.firstFailed(h) < 0 {
		load = uint64(h.ofService[r.requirements.service])
		key = load<<32 | uint64(h.tasks)
	}
	r.addLoad(h, load)
	r.candidates.set(h, key)
}

// addLoad counts a node's tasks of the service in the branches above it.
func (r *run) addLoad(h *nodeInfo, load uint64) {
	was := r.ranked[h]
	r.ranked[h] = load
	for b := r.candidates.positions[h].leaf; b != nil; b = b.parent {
		b.load += load - was
	}
}

// pick is the node on which one more task of the service keeps the distribution most even, nil if none can take it.
func (r *run) pick() *nodeInfo {
	for {
		h := r.candidates.first()
		if h == nil || r.requirements.firstFailed(h) < 0 {
			return h
		}
		r.rank(h) // full: taken out until the end of the run, during which nothing becomes free
	}
}

// placed counts a new task on a node.
func (r *run) placed(t *shoal.Task, h *nodeInfo) {
	r.index.place(t)
	r.rank(h)
}

// end ranks the nodes by load again, as every run expects to find them.
func (r *run) end() {
	for h := range r.ranked {
		r.addLoad(h, 0)
		r.candidates.rankByLoad(h)
	}
}
