package orchestrator

import (
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// settleMoves ends what moves between nodes: a place has a task that runs and, next to it, a newer one made of the same spec that
// is to take over. When the newer runs the older goes. When the older has ended and the newer has no node yet, the newer
// goes, if it was made for one node only: any other may be had sooner.
func (p *plan) settleMoves() {
	all := p.places()
	for _, key := range orderPlaces(all) {
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

// lingers tells whether a task on a node that is being drained runs on until another has taken over, or until the minimum
// of the service allows it to stop: see evict.
func (p *plan) lingers(t *shoal.Task) bool {
	return p.service.Spec.Mode.Replicated != nil && t.Status.State == shoal.TaskRunning && p.gentle()
}

// gentle tells whether the service is to be drained with care.
func (p *plan) gentle() bool {
	return p.updateConfig().Order == shoal.StartFirst || p.minAvailable() > 0
}

func (p *plan) minAvailable() int {
	n, err := strconv.Atoi(p.service.Spec.Labels[shoal.LabelDrainMinAvailable])
	if err != nil || n < 0 {
		return 0
	}
	return min(n, int(p.service.Spec.Replicas()))
}

// evict moves tasks off nodes that are being drained. Start-first services get the replacement first; others stop as many as the
// minimum leaves, and get the replacement first for the rest.
func (p *plan) evict() {
	all := p.places()
	var leaving []*shoal.Task
	available := 0
	for _, key := range orderPlaces(all) {
		now := p.current(all[key])
		if running(now) {
			available++
		}
		if len(now) == 1 && wanted(now[0]) && p.lingers(now[0]) && p.draining(now[0].NodeID) {
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
	n := p.view.Node(node)
	return n != nil && n.Spec.Availability == shoal.AvailabilityDrain
}

// room tells whether a node could run one more task of the service, as far as its tasks tell.
func (p *plan) room(n *shoal.Node) bool {
	if p.hostPort() != nil && p.portTaken(n) {
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
