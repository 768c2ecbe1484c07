package scheduler

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// maxPools is how many rankings an index keeps: every change of a host's load is told to each.
const maxPools = 32

// index is what the scheduler derives from a view: the hosts with their load, and rankings of them. It follows from view to
// view by the objects that differ. Of a node that is not there only the tasks are known.
type index struct {
	mark      store.Mark
	hosts     map[shoal.NodeID]*host
	tasks     map[shoal.TaskID]*shoal.Task // as counted on their hosts
	ofService map[shoal.ServiceID]map[*host]bool
	pools     map[string]*pool
	runs      uint64
	own       []shoal.TaskID // tasks placed since mark: whether the placement was committed is for the next view to tell
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
	for _, id := range x.own {
		x.setTask(id, v.Task(id))
	}
	x.own = x.own[:0]
}

func (x *index) rebuild(v store.View) {
	*x = index{
		mark: v.Mark(), hosts: map[shoal.NodeID]*host{}, tasks: map[shoal.TaskID]*shoal.Task{}, ofService: map[shoal.ServiceID]map[*host]bool{},
		pools: map[string]*pool{},
	}
	for _, n := range v.Nodes() {
		x.setNode(n.ID, n)
	}
	for _, t := range v.Tasks() {
		x.setTask(t.ID, t)
	}
}

func (x *index) host(id shoal.NodeID) *host {
	h := x.hosts[id]
	if h == nil {
		h = &host{ofService: map[shoal.ServiceID]int{}}
		x.hosts[id] = h
	}
	return h
}

// setNode tells of a node as it is now, nil if it is gone.
func (x *index) setNode(id shoal.NodeID, n *shoal.Node) {
	h := x.host(id)
	was := h.node
	h.node = n
	switch {
	case was == n:
	case was == nil:
		clear(x.pools) // seats are numbered by the nodes' IDs
	case n == nil || !sameForScheduling(was, n):
		for class, p := range x.pools {
			if n != nil && p.misplaced(h) {
				delete(x.pools, class)
			} else {
				p.reset(h)
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
	x.own = append(x.own, t.ID)
}

func (x *index) count(t *shoal.Task, n int) {
	h := x.host(t.NodeID)
	h.count(t, n)
	if h.ofService[t.ServiceID] > 0 {
		if x.ofService[t.ServiceID] == nil {
			x.ofService[t.ServiceID] = map[*host]bool{}
		}
		x.ofService[t.ServiceID][h] = true
	} else if on := x.ofService[t.ServiceID]; on[h] {
		delete(on, h)
		if len(on) == 0 {
			delete(x.ofService, t.ServiceID)
		}
	}
	for _, p := range x.pools {
		p.reset(h)
	}
}

// poolFor is the ranking for a demand, made when there is none.
func (x *index) poolFor(d *demand) *pool {
	x.runs++
	p := x.pools[d.class]
	if p == nil {
		if len(x.pools) >= maxPools {
			x.dropOldest()
		}
		p = newPool(x.sorted(), d)
		x.pools[d.class] = p
	}
	p.used = x.runs
	return p
}

func (x *index) dropOldest() {
	oldest := ""
	for class, p := range x.pools {
		if oldest == "" || p.used < x.pools[oldest].used {
			oldest = class
		}
	}
	delete(x.pools, oldest)
}

// sorted is the hosts that are there, by ID.
func (x *index) sorted() []*host {
	hosts := make([]*host, 0, len(x.hosts))
	for _, h := range x.hosts {
		if h.node != nil {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b *host) int { return cmp.Compare(a.node.ID, b.node.ID) })
	return hosts
}
