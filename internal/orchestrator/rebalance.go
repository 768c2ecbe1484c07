package orchestrator

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

const defaultCooldown = 30 * time.Second

func rebalances(s *shoal.Service) bool {
	return s.Spec.Labels[shoal.LabelRebalance] == "true" && s.Spec.Mode.Replicated != nil
}

// rebalance moves tasks from full nodes to emptier ones, if the service asks for it (shoal.LabelRebalance). The replacement is
// created for the emptier node, and the old task stops once it runs: see finishMoves. No move begins until all slots have a
// running task and the cool-down is over.
func (p *plan) rebalance() {
	if !rebalances(p.service) || p.updating() || p.paused() {
		return
	}
	d := &distribution{plan: p, onNode: map[shoal.NodeID][]*shoal.Task{}}
	moving := 0
	all := p.slots()
	for _, key := range sortedSlots(all) {
		now := p.current(all[key])
		if len(now) == 0 {
			continue
		}
		if !running(now) {
			return
		}
		if len(now) > 1 {
			moving++
		}
		newest := now[len(now)-1]
		d.onNode[newest.NodeID] = append(d.onNode[newest.NodeID], newest)
	}
	if quiet := p.cooldownEnds(); moving == 0 && quiet.After(p.now) {
		p.changes.Requeue(quiet)
		return
	}
	refused := p.refusedMoves()
	nodes := slices.DeleteFunc(p.eligible(), func(n *shoal.Node) bool { return !takesTasks(n) || refused[n.ID] })
	for ; moving < p.budget(); moving++ {
		t, to := d.move(nodes, preferencesOf(p.service))
		if t == nil {
			return
		}
		next := p.create(t.Slot, to.ID, shoal.TaskRunning, p.now)
		d.onNode[t.NodeID] = slices.DeleteFunc(d.onNode[t.NodeID], func(other *shoal.Task) bool { return other == t })
		d.onNode[to.ID] = append(d.onNode[to.ID], next)
	}
}

// refusedFor is how long no move is tried to a node that did not take one.
const refusedFor = 10 * time.Minute

// giveUpMove ends a task that its node does not take. It stays in the history, with the scheduler's explanation: see refusedMoves.
func (p *plan) giveUpMove(t *shoal.Task) {
	next := *t
	next.DesiredState = shoal.TaskShutdown
	next.Status = t.Status.WithMessage("move given up, the task stays where it is")
	next.Status.State, next.Status.Timestamp = shoal.TaskShutdown, p.now
	p.put(&next)
}

// refusedMoves is the nodes that have lately not taken a task of the service as it is now that was to be moved there: one that was shut down before it ran.
func (p *plan) refusedMoves() map[shoal.NodeID]bool {
	refused := map[shoal.NodeID]bool{}
	for _, t := range p.tasks {
		if t.Status.State != shoal.TaskShutdown || t.Status.Err == "" || !t.RunningSince.IsZero() || t.SpecVersion != p.service.SpecVersion {
			continue
		}
		if over := t.Status.Timestamp.Add(refusedFor); over.After(p.now) {
			refused[t.NodeID] = true
			p.changes.Requeue(over)
		}
	}
	return refused
}

// cooldownEnds is when the cool-down is over. It begins anew whenever a task of the service is created or starts to run.
func (p *plan) cooldownEnds() time.Time {
	cooldown := defaultCooldown
	if asked, err := time.ParseDuration(p.service.Spec.Labels[shoal.LabelRebalanceCooldown]); err == nil && asked >= 0 {
		cooldown = asked
	}
	var last time.Time
	for _, t := range p.tasks {
		for _, at := range []time.Time{t.CreatedAt, t.RunningSince} {
			if at.After(last) {
				last = at
			}
		}
	}
	return last.Add(cooldown)
}

// budget is how many tasks may be on the move at a time; 1 unless the service's label says otherwise.
func (p *plan) budget() int {
	n, err := strconv.Atoi(p.service.Spec.Labels[shoal.LabelRebalanceBudget])
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func preferencesOf(s *shoal.Service) []shoal.PlacementPreference {
	if s.Spec.Task.Placement == nil {
		return nil
	}
	return s.Spec.Task.Placement.Preferences
}

// distribution is the service's tasks by node, as it will be once all moves are done.
type distribution struct {
	*plan
	onNode map[shoal.NodeID][]*shoal.Task
}

func (d *distribution) load(nodes []*shoal.Node) int {
	n := 0
	for _, node := range nodes {
		n += len(d.onNode[node.ID])
	}
	return n
}

// move picks a running task and the node it should run on instead; both are nil if no move would make the distribution more even.
// It evens out over the values of the first spread preference, then of the next, and finally over nodes. A task is moved only
// where the difference is at least two tasks, so every move makes the distribution more even and no two moves undo each other.
func (d *distribution) move(nodes []*shoal.Node, preferences []shoal.PlacementPreference) (*shoal.Task, *shoal.Node) {
	if len(preferences) == 0 {
		return d.moveBetween(nodes, nodes)
	}
	branches := map[string][]*shoal.Node{}
	for _, n := range nodes {
		value, _ := shoal.NodeAttribute(n, preferences[0].SpreadOver)
		branches[value] = append(branches[value], n)
	}
	if len(branches) == 0 {
		return nil, nil
	}
	values := slices.Sorted(maps.Keys(branches))
	byLoad := func(x, y string) int { return cmp.Compare(d.load(branches[x]), d.load(branches[y])) }
	heavy, light := branches[slices.MaxFunc(values, byLoad)], branches[slices.MinFunc(values, byLoad)]
	if d.load(heavy)-d.load(light) >= 2 {
		if t, to := d.taskToMove(heavy), d.leastLoaded(light); t != nil && to != nil {
			return t, to
		}
	}
	for _, value := range values {
		if t, to := d.move(branches[value], preferences[1:]); t != nil {
			return t, to
		}
	}
	return nil, nil
}

// moveBetween picks a task on one of the nodes from, and a node of to with at least two tasks less; both are nil if there is none.
func (d *distribution) moveBetween(from, to []*shoal.Node) (*shoal.Task, *shoal.Node) {
	target := d.leastLoaded(to)
	if target == nil {
		return nil, nil
	}
	crowded := slices.DeleteFunc(slices.Clone(from), func(n *shoal.Node) bool {
		return len(d.onNode[n.ID])-len(d.onNode[target.ID]) < 2
	})
	if t := d.taskToMove(crowded); t != nil {
		return t, target
	}
	return nil, nil
}

// taskToMove is the newest running task of the node with the most tasks; nil if no node has a running one.
func (d *distribution) taskToMove(nodes []*shoal.Node) *shoal.Task {
	var best *shoal.Task
	most := 0
	for _, n := range nodes {
		tasks := slices.DeleteFunc(slices.Clone(d.onNode[n.ID]), func(t *shoal.Task) bool { return t.Status.State != shoal.TaskRunning })
		if len(tasks) > 0 && len(d.onNode[n.ID]) > most {
			best, most = slices.MaxFunc(tasks, olderFirst), len(d.onNode[n.ID])
		}
	}
	return best
}

// leastLoaded is the node with the fewest tasks of the service among those that have room for one, nil if none has.
func (d *distribution) leastLoaded(nodes []*shoal.Node) *shoal.Node {
	sorted := slices.Clone(nodes)
	slices.SortStableFunc(sorted, func(x, y *shoal.Node) int { return cmp.Compare(len(d.onNode[x.ID]), len(d.onNode[y.ID])) })
	if i := slices.IndexFunc(sorted, func(n *shoal.Node) bool { return d.fits(n, notEnded) }); i >= 0 {
		return sorted[i]
	}
	return nil
}
