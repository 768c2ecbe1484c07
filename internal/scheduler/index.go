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
	tasks     map[shoal.TaskID]*shoal.Task // as counted on their nodes
	ofService map[shoal.ServiceID]map[*nodeInfo]bool
	rankings  map[string]*candidates
	runs      uint64
	assumed   []shoal.TaskID // tasks placed since mark: whether the placement was committed is for the next view to tell
}

// follow brings the index to a view.
func (x *index) follow(v store.View) {
	refs, known := v.ChangedSince(x.mark)
	if !known {
		x.rebuild(v)
		return
	}
	x.mark = v.Mark()
	for _, r := range refs {
		switch r.Kind {
		case store.KindNode:
			x.setNode(shoal.NodeID(r.ID), v.Node(shoal.NodeID(r.ID)))
		case store.KindTask:
			x.setTask(shoal.TaskID(r.ID), v.Task(shoal.TaskID(r.ID)))
		default:
		}
	}
	for _, id := range x.assumed {
		x.setTask(id, v.Task(id))
	}
	x.assumed = x.assumed[:0]
}

func (x *index) rebuild(v store.View) {
	*x = index{
		mark: v.Mark(), nodes: map[shoal.NodeID]*nodeInfo{}, tasks: map[shoal.TaskID]*shoal.Task{}, ofService: map[shoal.ServiceID]map[*nodeInfo]bool{},
		rankings: map[string]*candidates{},
	}
	for _, n := range v.Nodes() {
		x.setNode(n.ID, n)
	}
	for _, t := range v.Tasks() {
		x.setTask(t.ID, t)
	}
}

func (x *index) nodeInfo(id shoal.NodeID) *nodeInfo {
	h := x.nodes[id]
	if h == nil {
		h = &nodeInfo{ofService: map[shoal.ServiceID]int{}}
		x.nodes[id] = h
	}
	return h
}

// setNode tells of a node as it is now, nil if it is gone.
func (x *index) setNode(id shoal.NodeID, n *shoal.Node) {
	h := x.nodeInfo(id)
	was := h.node
	h.node = n
	switch {
	case was == n:
	case was == nil:
		clear(x.rankings) // seats are numbered by the nodes' IDs
	case n == nil || !sameForScheduling(was, n):
		for class, p := range x.rankings {
			if n != nil && p.movedToOtherBranch(h) {
				delete(x.rankings, class)
			} else {
				p.rankByLoad(h)
			}
		}
	}
}

// setTask tells of a task as it is now, nil if it is gone.
func (x *index) setTask(id shoal.TaskID, t *shoal.Task) {
	if was := x.tasks[id]; was != nil {
		if was == t {
			return
		}
		x.count(was, -1)
		delete(x.tasks, id)
	}
	if t != nil && counts(t) {
		x.tasks[id] = t
		x.count(t, 1)
	}
}

// place counts a task that was just given a node.
func (x *index) place(t *shoal.Task) {
	x.setTask(t.ID, t)
	x.assumed = append(x.assumed, t.ID)
}

func (x *index) count(t *shoal.Task, n int) {
	h := x.nodeInfo(t.NodeID)
	h.count(t, n)
	if h.ofService[t.ServiceID] > 0 {
		if x.ofService[t.ServiceID] == nil {
			x.ofService[t.ServiceID] = map[*nodeInfo]bool{}
		}
		x.ofService[t.ServiceID][h] = true
	} else if on := x.ofService[t.ServiceID]; on[h] {
		delete(on, h)
		if len(on) == 0 {
			delete(x.ofService, t.ServiceID)
		}
	}
	for _, p := range x.rankings {
		p.rankByLoad(h)
	}
}

// candidatesFor is the ranking for a demand, made when there is none.
func (x *index) candidatesFor(d *requirements) *candidates {
	x.runs++
	p := x.rankings[d.class]
	if p == nil {
		if len(x.rankings) >= maxRankings {
			x.dropOldest()
		}
		p = newCandidates(x.sorted(), d)
		x.rankings[d.class] = p
	}
	p.used = x.runs
	return p
}

func (x *index) dropOldest() {
	oldest := ""
	for class, p := range x.rankings {
		if oldest == "" || p.used < x.rankings[oldest].used {
			oldest = class
		}
	}
	delete(x.rankings, oldest)
}

// sorted is the nodes that exist, by ID.
func (x *index) sorted() []*nodeInfo {
	nodes := make([]*nodeInfo, 0, len(x.nodes))
	for _, h := range x.nodes {
		if h.node != nil {
			nodes = append(nodes, h)
		}
	}
	slices.SortFunc(nodes, func(a, b *nodeInfo) int { return cmp.Compare(a.node.ID, b.node.ID) })
	return nodes
}
