package scheduler

import (
	"cmp"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// pool ranks the hosts for tasks of one demand (see demand.class): those that pass its lasting filters, by load, under the
// values of its placement preferences. While a run places tasks of a service, hosts and branches that have tasks of the
// service rank by them first.
type pool struct {
	demand *demand
	root   *branch
	seats  map[*host]seat
	used   uint64 // when, on the index's count of runs
}

// branch is the hosts that share the values of the preferences so far: further branches, by the next preference's value, or
// the hosts, by ID.
type branch struct {
	parent   *branch
	at       int // in the parent's ranking
	value    string
	children []*branch
	hosts    []*host
	order    ranking
	load     uint64 // tasks of the run's service, on hosts that could take one more
}

// seat is a host's place in a pool's ranking.
type seat struct {
	leaf *branch
	at   int
}

// newPool seats all hosts, whether they pass or not, so that a change of a node is a change of one key.
func newPool(hosts []*host, d *demand) *pool {
	p := &pool{demand: d, seats: make(map[*host]seat, len(hosts))}
	p.root = p.grow(nil, "", hosts, d.preferences)
	for _, h := range hosts {
		p.reset(h)
	}
	return p
}

func (p *pool) grow(parent *branch, value string, hosts []*host, preferences []string) *branch {
	b := &branch{parent: parent, value: value}
	if len(preferences) == 0 {
		b.hosts, b.order = hosts, newRanking(len(hosts))
		for i, h := range hosts {
			p.seats[h] = seat{b, i}
		}
		return b
	}
	groups := map[string][]*host{}
	for _, h := range hosts {
		value, _ := shoal.NodeAttribute(h.node, preferences[0])
		groups[value] = append(groups[value], h)
	}
	for value, members := range groups {
		b.children = append(b.children, p.grow(b, value, members, preferences[1:]))
	}
	slices.SortFunc(b.children, func(a, b *branch) int { return cmp.Compare(a.value, b.value) })
	b.order = newRanking(len(b.children))
	for i, child := range b.children {
		child.at = i
	}
	return b
}

// misplaced tells whether a node's new description puts it under another branch.
func (p *pool) misplaced(h *host) bool {
	b := p.seats[h].leaf
	if b == nil {
		return true
	}
	for _, attribute := range slices.Backward(p.demand.preferences) {
		if value, _ := shoal.NodeAttribute(h.node, attribute); value != b.value {
			return true
		}
		b = b.parent
	}
	return false
}

// reset ranks a host by its load, or not at all if it does not pass.
func (p *pool) reset(h *host) {
	if h.node == nil || p.demand.refusedForGood(h) {
		p.set(h, absent)
	} else {
		p.set(h, uint64(h.tasks))
	}
}

func (p *pool) set(h *host, key uint64) {
	at, seated := p.seats[h]
	if !seated {
		return
	}
	at.leaf.order.set(at.at, key)
	at.leaf.tell()
}

// tell ranks a branch in its parent, and so on.
func (b *branch) tell() {
	for ; b.parent != nil; b = b.parent {
		key := b.load
		if b.order.empty() {
			key = absent
		}
		b.parent.order.set(b.at, key)
	}
}

// first is the host with the lowest rank, nil if there is none.
func (p *pool) first() *host {
	b := p.root
	if b.order.empty() {
		return nil
	}
	for b.children != nil {
		b = b.children[b.order.first()]
	}
	return b.hosts[b.order.first()]
}

// run places tasks of one service and one demand, one after another.
type run struct {
	index  *index
	pool   *pool
	demand *demand
	ranked map[*host]uint64 // the tasks of the service that count in a host's branches, for hosts whose rank is not by load alone
}

func (x *index) begin(d *demand) *run {
	r := &run{index: x, pool: x.poolFor(d), demand: d, ranked: map[*host]uint64{}}
	for h := range x.ofService[d.service] {
		r.rank(h)
	}
	return r
}

// rank sets a host's rank by what runs on it now: it has none when it cannot take another task of the run.
func (r *run) rank(h *host) {
	if _, seated := r.pool.seats[h]; !seated {
		return
	}
	key, load := uint64(absent), uint64(0)
	if h.node != nil && r.demand.refusal(h) < 0 {
		load = uint64(h.ofService[r.demand.service])
		key = load<<32 | uint64(h.tasks)
	}
	r.carry(h, load)
	r.pool.set(h, key)
}

// carry counts a host's tasks of the service in its branches.
func (r *run) carry(h *host, load uint64) {
	was := r.ranked[h]
	r.ranked[h] = load
	for b := r.pool.seats[h].leaf; b != nil; b = b.parent {
		b.load += load - was
	}
}

// pick is the host on which one more task of the service does least harm to an even distribution, nil if none can take it.
func (r *run) pick() *host {
	for {
		h := r.pool.first()
		if h == nil || r.demand.refusal(h) < 0 {
			return h
		}
		r.rank(h) // full: out until the end of the run, in which nothing becomes free
	}
}

// placed counts a new task on a host.
func (r *run) placed(t *shoal.Task, h *host) {
	r.index.place(t)
	r.rank(h)
}

// end gives the pool back as the next run wants it.
func (r *run) end() {
	for h := range r.ranked {
		r.carry(h, 0)
		r.pool.reset(h)
	}
}
