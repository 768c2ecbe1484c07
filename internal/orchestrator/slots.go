package orchestrator

import (
	"cmp"
	"math"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// slotKey identifies a slot, in which one task at a time is wanted: by its number in a replicated service, by its node in a
// global one.
type slotKey struct {
	slot uint64
	node shoal.NodeID
}

func slotKeyOf(t *shoal.Task) slotKey {
	if t.Slot != 0 {
		return slotKey{slot: t.Slot}
	}
	return slotKey{node: t.NodeID}
}

// slots groups the tasks by slot, oldest first in each.
func (p *plan) slots() map[slotKey][]*shoal.Task {
	all := map[slotKey][]*shoal.Task{}
	for _, t := range p.sorted() {
		all[slotKeyOf(t)] = append(all[slotKeyOf(t)], t)
	}
	return all
}

// planned is the tasks as this plan has changed them, without those it removes.
func (p *plan) planned(tasks []*shoal.Task) []*shoal.Task {
	now := make([]*shoal.Task, 0, len(tasks))
	for _, t := range tasks {
		if planned := p.tasks[t.ID]; planned != nil {
			now = append(now, planned)
		}
	}
	return now
}

// sortedSlots lists the slots in a fixed order, so that the same view always gives the same changes.
func sortedSlots(slots map[slotKey][]*shoal.Task) []slotKey {
	keys := make([]slotKey, 0, len(slots))
	for k := range slots {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b slotKey) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.node, b.node))
	})
	return keys
}

// current is the tasks of a slot that are wanted. When none is and the restart policy does not let the last one be restarted, it
// is that last one: the slot stays occupied and must not be filled again.
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
	p.finishMoves()
	var taken []slotKey
	all := p.slots()
	for _, key := range sortedSlots(all) {
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
	p.evacuate()
	p.rebalance()
}

// grow creates tasks in the lowest free slots and returns all slots in use. A slot whose task was lost with its node counts as
// free, so that its replacement does not wait for the restart delay.
func (p *plan) grow(all map[slotKey][]*shoal.Task, taken []slotKey, want int) []slotKey {
	used := map[uint64]bool{}
	for _, key := range taken {
		used[key.slot] = true
	}
	fill := func(slot uint64) {
		used[slot] = true
		taken = append(taken, slotKey{slot: slot})
		p.create(slot, "", shoal.TaskRunning, p.now)
	}
	// Slots that had a wanted task until now come first, so that a replacement takes the number of what it replaces.
	for _, key := range sortedSlots(all) {
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
func (p *plan) shrink(all map[slotKey][]*shoal.Task, taken []slotKey, want int) []slotKey {
	slices.SortFunc(taken, func(a, b slotKey) int { return cmp.Compare(a.slot, b.slot) })
	// The first running task on a node ranks 1, the second 2: to go down the ranks is to take from the fullest nodes.
	rank := map[slotKey]int{}
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
	slices.SortStableFunc(taken, func(a, b slotKey) int { return cmp.Compare(rank[a], rank[b]) })
	for _, key := range taken[want:] {
		for _, t := range all[key] {
			p.desire(t, shoal.TaskRemove)
		}
	}
	return taken[:want]
}

// global keeps one task on every eligible node.
func (p *plan) global() {
	p.finishMoves()
	all := p.slots()
	var taken []slotKey
	for _, t := range p.sorted() {
		if node := p.node(t.NodeID); wanted(t) && node != nil && !p.satisfies(node) {
			p.desire(t, shoal.TaskShutdown)
		}
	}
	for _, node := range p.eligible() {
		key := slotKey{node: node.ID}
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
