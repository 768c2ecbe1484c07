package scheduler

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// maxRankings is how many rankings an index keeps: every change of a node's load is told to each.
const maxRankings = 32

// index is what the scheduler derives from a view: the nodes with their load, and rankings of them. It follows from view to
// view by the objects that differ. Of a node that is not there only the tasks are known.
type index struct {
	mark      store.Mark
	nodes     map[shoal.NodeID]*nodeInfo
	tasks     map[shoal.TaskID]*shoal.Task // as counted on their nodes, and those that have failed
	ofService map[shoal.ServiceID]map[*nodeInfo]bool
	failures  failures
	rankings  map[string]*candidates
	runs      uint64
	assumed   []shoal.TaskID // tasks placed since mark: whether the placement was committed is for the next view to tell
}

// follow brings the index to a view.
func (i *index) follow(v store.View) {
	refs, known := v.ChangedSince(i.mark)
	if !known {
		i.rebuild(v)
		return
	}
	i.mark = v.Mark()
	for _, r := range refs {
		switch r.Kind {
		case store.KindNode:
			i.setNode(shoal.NodeID(r.ID), v.Node(shoal.NodeID(r.ID)))
		case store.KindTask:
			i.setTask(shoal.TaskID(r.ID), v.Task(shoal.TaskID(r.ID)))
		default:
		}
	}
	for _, id := range i.assumed {
		i.setTask(id, v.Task(id))
	}
	i.assumed = i.assumed[:0]
}

func (i *index) rebuild(v store.View) {
	*i = index{
		mark: v.Mark(), nodes: map[shoal.NodeID]*nodeInfo{}, tasks: map[shoal.TaskID]*shoal.Task{}, ofService: map[shoal.ServiceID]map[*nodeInfo]bool{},
		failures: failures{}, rankings: map[string]*candidates{},
	}
	for _, n := range v.Nodes() {
		i.setNode(n.ID, n)
	}
	for _, t := range v.Tasks() {
		i.setTask(t.ID, t)
	}
}

func (i *index) nodeInfo(id shoal.NodeID) *nodeInfo {
	n := i.nodes[id]
	if n == nil {
		n = &nodeInfo{ofService: map[shoal.ServiceID]int{}}
		i.nodes[id] = n
	}
	return n
}

// setNode takes over a node as it is now, nil if it is gone.
func (i *index) setNode(id shoal.NodeID, node *shoal.Node) {
	n := i.nodeInfo(id)
	was := n.node
	n.node = node
	switch {
	case was == node:
	case was == nil:
		clear(i.rankings) // positions follow the nodes' IDs
	case node == nil || !sameForScheduling(was, node):
		for class, c := range i.rankings {
			if node != nil && c.movedToOtherBranch(n) {
				delete(i.rankings, class)
			} else {
				c.rankByLoad(n)
			}
		}
	}
}

// setTask takes over a task as it is now, nil if it is gone.
func (i *index) setTask(id shoal.TaskID, t *shoal.Task) {
	was := i.tasks[id]
	if was != nil {
		if was == t {
			return
		}
		if counts(was) {
			i.count(was, -1)
		}
		delete(i.tasks, id)
	}
	i.failures.set(id, was, t)
	if t == nil || !counts(t) && !failed(t) {
		return
	}
	i.tasks[id] = t
	if counts(t) {
		i.count(t, 1)
	}
}

// place counts a task that was just given a node.
func (i *index) place(t *shoal.Task) {
	i.setTask(t.ID, t)
	i.assumed = append(i.assumed, t.ID)
}

// count adds a task to its node (change is 1) or removes it (change is -1).
func (i *index) count(t *shoal.Task, change int) {
	n := i.nodeInfo(t.NodeID)
	n.count(t, change)
	if n.ofService[t.ServiceID] > 0 {
		if i.ofService[t.ServiceID] == nil {
			i.ofService[t.ServiceID] = map[*nodeInfo]bool{}
		}
		i.ofService[t.ServiceID][n] = true
	} else if on := i.ofService[t.ServiceID]; on[n] {
		delete(on, n)
		if len(on) == 0 {
			delete(i.ofService, t.ServiceID)
		}
	}
	for _, c := range i.rankings {
		c.rankByLoad(n)
	}
}

// candidatesFor is the ranking for tasks with the requirements; it is made if there is none.
func (i *index) candidatesFor(req *requirements) *candidates {
	i.runs++
	c := i.rankings[req.class]
	if c == nil {
		if len(i.rankings) >= maxRankings {
			i.dropOldest()
		}
		c = newCandidates(i.sorted(), req)
		i.rankings[req.class] = c
	}
	c.used = i.runs
	return c
}

func (i *index) dropOldest() {
	oldest := ""
	for class, c := range i.rankings {
		if oldest == "" || c.used < i.rankings[oldest].used {
			oldest = class
		}
	}
	delete(i.rankings, oldest)
}

// sorted is the nodes that exist, by ID.
func (i *index) sorted() []*nodeInfo {
	nodes := make([]*nodeInfo, 0, len(i.nodes))
	for _, n := range i.nodes {
		if n.node != nil {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *nodeInfo) int { return cmp.Compare(a.node.ID, b.node.ID) })
	return nodes
}
