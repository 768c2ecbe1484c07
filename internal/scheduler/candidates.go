package scheduler

import (
	"cmp"
	"slices"
	"time"

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
func newCandidates(nodes []*nodeInfo, req *requirements) *candidates {
	c := &candidates{requirements: req, positions: make(map[*nodeInfo]position, len(nodes))}
	c.root = c.newBranch(nil, "", nodes, req.preferences)
	for _, n := range nodes {
		c.rankByLoad(n)
	}
	return c
}

func (c *candidates) newBranch(parent *branch, value string, nodes []*nodeInfo, preferences []string) *branch {
	b := &branch{parent: parent, value: value}
	if len(preferences) == 0 {
		b.nodes, b.order = nodes, newRanking(len(nodes))
		for i, n := range nodes {
			c.positions[n] = position{b, i}
		}
		return b
	}
	groups := map[string][]*nodeInfo{}
	for _, n := range nodes {
		value, _ := shoal.NodeAttribute(n.node, preferences[0])
		groups[value] = append(groups[value], n)
	}
	for value, members := range groups {
		b.children = append(b.children, c.newBranch(b, value, members, preferences[1:]))
	}
	slices.SortFunc(b.children, func(a, b *branch) int { return cmp.Compare(a.value, b.value) })
	b.order = newRanking(len(b.children))
	for i, child := range b.children {
		child.at = i
	}
	return b
}

// movedToOtherBranch tells whether a node's preference values no longer are those of its branch.
func (c *candidates) movedToOtherBranch(n *nodeInfo) bool {
	b := c.positions[n].leaf
	if b == nil {
		return true
	}
	for _, attribute := range slices.Backward(c.requirements.preferences) {
		if value, _ := shoal.NodeAttribute(n.node, attribute); value != b.value {
			return true
		}
		b = b.parent
	}
	return false
}

// rankByLoad ranks a node by its number of tasks, or takes it out if it fails a static filter.
func (c *candidates) rankByLoad(n *nodeInfo) {
	if n.node == nil || c.requirements.failsStatic(n) {
		c.set(n, absent)
	} else {
		c.set(n, uint64(n.tasks))
	}
}

func (c *candidates) set(n *nodeInfo, key uint64) {
	at, ranked := c.positions[n]
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
func (c *candidates) first() *nodeInfo {
	b := c.root
	if b.order.empty() {
		return nil
	}
	for b.children != nil {
		b = b.children[b.order.first()]
	}
	return b.nodes[b.order.first()]
}

// run places tasks of one service that have the same requirements, one after another.
type run struct {
	index        *index
	candidates   *candidates
	requirements *requirements
	failing      map[shoal.NodeID]bool // where the service fails again and again
	ranked       map[*nodeInfo]uint64  // the tasks of the service that count in a node's branches, for nodes whose rank is not by load alone
}

func (i *index) newRun(req *requirements, now time.Time) *run {
	r := &run{index: i, candidates: i.candidatesFor(req), requirements: req, failing: i.failures.nodes(req, now), ranked: map[*nodeInfo]uint64{}}
	for id := range r.failing {
		r.rank(i.nodeInfo(id))
	}
	for n := range i.ofService[req.service] {
		r.rank(n)
	}
	return r
}

// failingKey is more than what any number of tasks gives.
const failingKey = 1 << 62

// rank sets a node's rank by the tasks it has now. A node that cannot take another task of the run is taken out.
func (r *run) rank(n *nodeInfo) {
	if _, ranked := r.candidates.positions[n]; !ranked {
		return
	}
	key, load := uint64(absent), uint64(0)
	if n.node != nil && r.requirements.firstFailed(n) < 0 {
		load = uint64(n.ofService[r.requirements.service])
		key = load<<32 | uint64(n.tasks)
		if r.failing[n.node.ID] {
			key |= failingKey
		}
	}
	r.addLoad(n, load)
	r.candidates.set(n, key)
}

// addLoad counts a node's tasks of the service in the branches above it.
func (r *run) addLoad(n *nodeInfo, load uint64) {
	was := r.ranked[n]
	r.ranked[n] = load
	for b := r.candidates.positions[n].leaf; b != nil; b = b.parent {
		b.load += load - was
	}
}

// pick is the node on which one more task of the service keeps the distribution most even, nil if none can take it.
func (r *run) pick() *nodeInfo {
	for {
		n := r.candidates.first()
		if n == nil || r.requirements.firstFailed(n) < 0 {
			return n
		}
		r.rank(n) // full: taken out until the end of the run, during which nothing becomes free
	}
}

// placed counts a new task on a node.
func (r *run) placed(t *shoal.Task, n *nodeInfo) {
	r.index.place(t)
	r.rank(n)
}

// end ranks the nodes by load again, as every run expects to find them.
func (r *run) end() {
	for n := range r.ranked {
		r.addLoad(n, 0)
		r.candidates.rankByLoad(n)
	}
}
