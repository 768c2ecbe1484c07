package orchestrator

import (
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// finishMoves completes moves between nodes. While a task moves, its slot has two tasks of the same spec: one that runs, and a
// newer one that replaces it. As soon as the newer one runs, the older one is shut down. If the older one ends before the newer
// one has been assigned, and the newer one may only run on one particular node, the newer one is shut down instead: a new
// replacement that may run anywhere will start sooner.
func (p *plan) finishMoves() {
	all := p.slots()
	for _, key := range sortedSlots(all) {
		now := slices.DeleteFunc(p.current(all[key]), p.dirty)
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
		}
	}
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
// predecessor stops. Otherwise as many tasks stop at once as the service's minimum allows, and only the rest start first.
func (p *plan) evacuate() {
	all := p.slots()
	var leaving []*shoal.Task
	available := 0
	for _, key := range sortedSlots(all) {
		now := p.current(all[key])
		if running(now) {
			available++
		}
		if len(now) == 1 && wanted(now[0]) && p.waitsForReplacement(now[0]) && p.draining(now[0].NodeID) {
			leaving = append(leaving, now[0])
		}
	}
	for _, t := range leaving {
		if p.updateConfig().Order != shoal.StartFirst && available > p.minAvailable() {
			available--
			p.desire(t, shoal.TaskShutdown)
		} else {
			p.create(t.Slot, "", shoal.TaskRunning, p.now)
		}
	}
}

func (p *plan) draining(node shoal.NodeID) bool {
	n := p.node(node)
	return n != nil && n.Spec.Availability == shoal.AvailabilityDrain
}

// fits tells whether a node has the host-mode ports, CPU and memory for one more task of the service.
func (p *plan) fits(n *shoal.Node) bool {
	if p.hostPort() != nil && p.hostPortTaken(n) {
		return false
	}
	need := reserved(&p.service.Spec.Task)
	free := n.Description.Resources
	for _, t := range p.view.TasksOnNode(n.ID) {
		if !t.Status.State.Ended() {
			free.NanoCPUs -= reserved(&t.Spec).NanoCPUs
			free.MemoryBytes -= reserved(&t.Spec).MemoryBytes
		}
	}
	return (need.NanoCPUs == 0 || need.NanoCPUs <= free.NanoCPUs) && (need.MemoryBytes == 0 || need.MemoryBytes <= free.MemoryBytes)
}

func reserved(spec *shoal.TaskSpec) shoal.Resources {
	if spec.Resources == nil || spec.Resources.Reservations == nil {
		return shoal.Resources{}
	}
	return *spec.Resources.Reservations
}
