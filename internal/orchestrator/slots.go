package orchestrator

import (
	"cmp"
	"math"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// place is where one task at a time is wanted: a slot of a replicated service or a node of a global one.
type place struct {
	slot uint64
	node shoal.NodeID
}

func placeOf(t *shoal.Task) place {
	if t.Slot != 0 {
		return place{slot: t.Slot}
	}
	return place{node: t.NodeID}
}

// places groups the tasks by place, oldest first in each.
func (p *plan) places() map[place][]*shoal.Task {
	all := map[place][]*shoal.Task{}
	for _, t := range p.sorted() {
		all[placeOf(t)] = append(all[placeOf(t)], t)
	}
	return all
}

// asPlanned is tasks as they are by now.
func (p *plan) asPlanned(tasks []*shoal.Task) []*shoal.Task {
	now := make([]*shoal.Task, 0, len(tasks))
	for _, t := range tasks {
		if planned := p.tasks[t.ID]; planned != nil {
			now = append(now, planned)
		}
	}
	return now
}

// orderPlaces lists places in a fixed order.
func orderPlaces(places map[place][]*shoal.Task) []place {
	keys := make([]place, 0, len(places))
	for k := range places {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.node, b.node))
	})
	return keys
}

// current is the tasks of a place that are wanted. When none is and the last one ended for good, as its restart policy says,
// it is that one: the place is taken, not free.
func (p *plan) current(tasks []*shoal.Task) []*shoal.Task {
	var now []*shoal.Task
	for _, t := range tasks {
		if wanted(t) {
			now = append(now, t)
		}
	}
	if len(now) > 0 || len(tasks) == 0 {
		return now
	}
	last := tasks[len(tasks)-1]
	if last.DesiredState == shoal.TaskShutdown && last.Status.State.Ended() && last.Status.State != shoal.TaskOrphaned &&
		last.Status.State != shoal.TaskShutdown && !p.restartable(last, tasks) {
		return []*shoal.Task{last}
	}
	return nil
}

// replicated brings the number of slots to that of the replicas, after ended tasks have been replaced.
func (p *plan) replicated() {
	p.settleMoves()
	var taken []place
	all := p.places()
	for _, key := range orderPlaces(all) {
		if len(p.current(all[key])) == 0 {
			continue
		}
		taken = append(taken, key)
	}
	want := int(p.service.Spec.Replicas()) // #nosec G115 -- far fewer
	if len(taken) > want {
		taken = p.shrink(all, taken, want)
	}
	for _, key := range taken {
		p.restart(all[key])
	}
	if len(taken) < want {
		taken = p.grow(all, taken, want)
	}
	p.update(taken)
	p.evict()
	p.rebalance()
}

// grow fills the lowest free slots. A slot whose task was lost with its node is among them, so its replacement has no delay.
// It returns all slots in use.
func (p *plan) grow(all map[place][]*shoal.Task, taken []place, want int) []place {
	used := map[uint64]bool{}
	for _, key := range taken {
		used[key.slot] = true
	}
	fill := func(slot uint64) {
		used[slot] = true
		taken = append(taken, place{slot: slot})
		p.create(slot, "", shoal.TaskRunning, p.now)
	}
	// Slots that had a wanted task until now come first, so that a replacement takes the number of what it replaces.
	for _, key := range orderPlaces(all) {
		tasks := all[key]
		if len(taken) < want && !used[key.slot] && tasks[len(tasks)-1].DesiredState == shoal.TaskShutdown {
			fill(key.slot)
		}
	}
	for slot := uint64(1); len(taken) < want; slot++ {
		if !used[slot] {
			fill(slot)
		}
	}
	return taken
}

// shrink removes slots until want are left: first those that do not run, then those on the nodes with the most running tasks
// of the service.
func (p *plan) shrink(all map[place][]*shoal.Task, taken []place, want int) []place {
	slices.SortFunc(taken, func(a, b place) int { return cmp.Compare(a.slot, b.slot) })
	// The first running task on a node ranks 1, the second 2: to go down the ranks is to take from the fullest nodes.
	rank := map[place]int{}
	onNode := map[shoal.NodeID]int{}
	for _, key := range taken {
		rank[key] = math.MaxInt
		for _, t := range p.current(all[key]) {
			if t.Status.State == shoal.TaskRunning {
				onNode[t.NodeID]++
				rank[key] = onNode[t.NodeID]
			}
		}
	}
	slices.SortStableFunc(taken, func(a, b place) int { return cmp.Compare(rank[a], rank[b]) })
	for _, key := range taken[want:] {
		for _, t := range all[key] {
			p.desire(t, shoal.TaskRemove)
		}
	}
	return taken[:want]
}

// global keeps one task on every eligible node.
func (p *plan) global() {
	p.settleMoves()
	all := p.places()
	var taken []place
	for _, t := range p.sorted() {
		if node := p.view.Node(t.NodeID); wanted(t) && node != nil && !p.satisfies(node) {
			p.desire(t, shoal.TaskShutdown)
		}
	}
	for _, node := range p.eligible() {
		key := place{node: node.ID}
		if len(p.current(all[key])) > 0 {
			taken = append(taken, key)
			p.restart(all[key])
		} else if takesTasks(node) {
			p.create(0, node.ID, shoal.TaskRunning, p.now)
			taken = append(taken, key)
		}
	}
	p.update(taken)
}

// eligible is the nodes that a global service wants a task on, by ID: ready, not drained, within the constraints.
func (p *plan) eligible() []*shoal.Node {
	var nodes []*shoal.Node
	for _, n := range p.view.Nodes() {
		if n.Status.State == shoal.NodeReady && n.Spec.Availability != shoal.AvailabilityDrain && p.satisfies(n) {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *shoal.Node) int { return cmp.Compare(a.ID, b.ID) })
	return nodes
}
