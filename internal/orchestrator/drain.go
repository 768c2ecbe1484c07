package orchestrator

import (
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// finishMoves completes moves between nodes. While a task moves, its slot has two tasks of the same spec: one that runs, and a
// newer one that replaces it. As soon as the newer one runs, the older one is shut down. If the older one ends before the newer
// one has been assigned, and the newer one may only run on one particular node, the newer one is shut down instead: a new
// replacement that may run anywhere will start sooner. If that node does not take it while the older one runs, the move is given up.
//
// Both may be of an earlier spec by then: an update that has to wait for room must not keep the older one on a node that is being drained.
func (p *plan) finishMoves() {
	all := p.slots()
	for _, key := range sortedSlots(all) {
		now := p.current(all[key])
		for i, t := range now {
			if p.dirty(t) && p.draining(t.NodeID) && running(now[i+1:]) {
				p.desire(t, shoal.TaskShutdown)
			}
		}
		now = slices.DeleteFunc(now, p.dirty)
		if len(now) == 0 {
			continue
		}
		newest := now[len(now)-1]
		switch older := now[:len(now)-1]; {
		case newest.Status.State == shoal.TaskRunning:
			for _, t := range older {
				p.desire(t, shoal.TaskShutdown)
			}
		case key.slot != 0 && !running(older) && newest.NodeID != "" && newest.Status.State < shoal.TaskAssigned:
			p.desire(newest, shoal.TaskShutdown)
		case key.slot != 0 && newest.NodeID != "" && len(older) > 0 && p.blocked(newest):
			p.giveUpMove(newest)
		case newest.NodeID == "" && slices.ContainsFunc(older, p.stays):
			p.desire(newest, shoal.TaskShutdown) // the node that was drained is active again
		}
	}
}

// stays tells whether a task may go on where it is.
func (p *plan) stays(t *shoal.Task) bool {
	return t.Status.State >= shoal.TaskAssigned && notEnded(t) && t.NodeID != "" && !p.draining(t.NodeID)
}

// waitsForReplacement tells whether a task on a node that is being drained keeps running until its replacement runs, or until
// the minimum of the service allows it to stop: see evacuate.
func (p *plan) waitsForReplacement(t *shoal.Task) bool {
	return p.service.Spec.Mode.Replicated != nil && t.Status.State == shoal.TaskRunning && p.drainsGracefully()
}

// drainsGracefully tells whether the service asks for more than Docker's behaviour, which stops all tasks of a drained node at once.
func (p *plan) drainsGracefully() bool {
	return p.updateConfig().Order == shoal.StartFirst || p.minAvailable() > 0
}

func (p *plan) minAvailable() int {
	n, err := strconv.Atoi(p.service.Spec.Labels[shoal.LabelDrainMinAvailable])
	if err != nil || n < 0 {
		return 0
	}
	return min(n, int(p.service.Spec.Replicas()))
}

// evacuate moves tasks off nodes that are being drained. With update order start-first every replacement starts before its
// predecessor stops. Otherwise as many tasks stop at once as the service's minimum allows, and only the rest start first. A replacement that finds no
// node lets its predecessor stop first, unless the minimum forbids that.
func (p *plan) evacuate() {
	all := p.slots()
	var leaving []*shoal.Task
	stuck := map[*shoal.Task]*shoal.Task{} // replacements that find no node, by the task that waits for them
	available := 0
	for _, key := range sortedSlots(all) {
		now := p.current(all[key])
		if running(now) {
			available++
		}
		for i, t := range now {
			if !wanted(t) || !p.waitsForReplacement(t) || !p.draining(t.NodeID) {
				continue
			}
			if len(now) == 1 {
				leaving = append(leaving, t)
			} else if next := now[len(now)-1]; i < len(now)-1 && p.blocked(next) {
				leaving, stuck[t] = append(leaving, t), next
			}
		}
	}
	for _, t := range leaving {
		next, startFirst := stuck[t], p.updateConfig().Order == shoal.StartFirst
		spare := available > p.minAvailable()
		switch {
		case next != nil && spare:
			available--
			p.giveWay([]*shoal.Task{t}, next, next.Status.Err)
		case next != nil: // as many as asked for cannot run elsewhere: it waits
		case !startFirst && spare:
			available--
			p.desire(t, shoal.TaskShutdown)
		default:
			p.create(t.Slot, "", shoal.TaskRunning, p.now)
		}
	}
}

func (p *plan) draining(node shoal.NodeID) bool {
	n := p.node(node)
	return n != nil && n.Spec.Availability == shoal.AvailabilityDrain
}
