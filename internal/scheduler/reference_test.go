package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// referencePlacement is what the scheduler should do, without an index: every task is compared with every node.
func referencePlacement(v store.View) (where map[shoal.TaskID]shoal.NodeID, why map[shoal.TaskID]string) {
	nodes := nodesOf(v)
	waiting := slices.DeleteFunc(v.UnassignedTasks(), func(t *shoal.Task) bool { return !pending(t) })
	slices.SortFunc(waiting, func(a, b *shoal.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	where, why = map[shoal.TaskID]shoal.NodeID{}, map[shoal.TaskID]string{}
	for _, t := range waiting {
		req := requirementsOf(v, t)
		candidates := nodes
		if t.NodeID != "" {
			candidates = slices.DeleteFunc(slices.Clone(nodes), func(n *nodeInfo) bool { return n.node.ID != t.NodeID })
		}
		fit := slices.DeleteFunc(slices.Clone(candidates), func(n *nodeInfo) bool { return req.firstFailed(n) >= 0 })
		if len(fit) == 0 {
			why[shoal.TaskID(reconcile.Key(t.ID))] = req.explanation(candidates)
			continue
		}
		n := spread(fit, req, referenceFailing(v, t))
		where[t.ID] = shoal.NodeID(reconcile.Key(n.node.ID))
		n.count(t, 1)
	}
	return where, why
}

// referenceFailing is the nodes on which three tasks of the service as it is now have failed within five minutes.
func referenceFailing(v store.View, next *shoal.Task) map[shoal.NodeID]bool {
	failures, failing := map[shoal.NodeID]int{}, map[shoal.NodeID]bool{}
	for _, t := range v.TasksOfService(next.ServiceID) {
		if (t.Status.State == shoal.TaskFailed || t.Status.State == shoal.TaskRejected) && t.SpecVersion == next.SpecVersion &&
			v.Now().Sub(t.Status.Timestamp) < 5*time.Minute {
			failures[t.NodeID]++
			failing[t.NodeID] = failures[t.NodeID] >= 3
		}
	}
	return failing
}

func nodesOf(v store.View) []*nodeInfo {
	var nodes []*nodeInfo
	for _, n := range v.Nodes() {
		h := &nodeInfo{node: n}
		for _, t := range v.TasksOnNode(n.ID) {
			if counts(t) {
				h.count(t, 1)
			}
		}
		nodes = append(nodes, h)
	}
	return nodes
}

// spread picks, over the values of the preferences first, then where the service does not fail, then by its tasks, then by all tasks, then by ID.
func spread(nodes []*nodeInfo, req *requirements, failing map[shoal.NodeID]bool) *nodeInfo {
	for _, attribute := range req.preferences {
		branches, load := map[string][]*nodeInfo{}, map[string]int{}
		for _, n := range nodes {
			value, _ := shoal.NodeAttribute(n.node, attribute)
			branches[value] = append(branches[value], n)
			load[value] += n.ofService[req.service]
		}
		nodes = branches[slices.MinFunc(slices.Collect(maps.Keys(branches)), func(a, b string) int {
			return cmp.Or(cmp.Compare(load[a], load[b]), cmp.Compare(a, b))
		})]
	}
	return slices.MinFunc(nodes, func(a, b *nodeInfo) int {
		if failing[a.node.ID] != failing[b.node.ID] {
			return map[bool]int{true: 1, false: -1}[failing[a.node.ID]]
		}
		return cmp.Or(cmp.Compare(a.ofService[req.service], b.ofService[req.service]), cmp.Compare(a.tasks, b.tasks), cmp.Compare(a.node.ID, b.node.ID))
	})
}

// world draws nodes, services and changes of them.
type world struct {
	*rapid.T
	specs map[shoal.ServiceID]shoal.TaskSpec
	ports map[shoal.ServiceID][]shoal.Port
	tasks int
}

func (w *world) node() *shoal.Node {
	n := node(fmt.Sprint("n", rapid.IntRange(1, 7).Draw(w.T, "node")), map[string]string{
		"zone": rapid.SampledFrom([]string{"a", "b", ""}).Draw(w.T, "zone"), "disk": rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(w.T, "disk"),
	})
	n.Status.State = rapid.SampledFrom([]shoal.NodeState{shoal.NodeReady, shoal.NodeReady, shoal.NodeReady, shoal.NodeDown}).Draw(w.T, "state")
	n.Spec.Availability = rapid.SampledFrom([]shoal.Availability{shoal.AvailabilityActive, shoal.AvailabilityActive, shoal.AvailabilityDrain}).Draw(w.T, "availability")
	n.Description.Plugins = []shoal.Plugin{{Type: "Volume", Name: "local"}}
	if rapid.Bool().Draw(w.T, "nfs") {
		n.Description.Plugins = append(n.Description.Plugins, shoal.Plugin{Type: "Volume", Name: "nfs"})
	}
	return n
}

func (w *world) spec(service shoal.ServiceID) shoal.TaskSpec {
	if spec, known := w.specs[service]; known {
		return spec
	}
	place := &shoal.Placement{MaxReplicas: rapid.SampledFrom([]uint64{0, 0, 1, 2}).Draw(w.T, "max replicas")}
	for _, over := range rapid.SampledFrom([][]string{nil, nil, {"node.labels.zone"}, {"node.labels.zone", "node.labels.disk"}}).Draw(w.T, "over") {
		place.Preferences = append(place.Preferences, shoal.PlacementPreference{SpreadOver: over})
	}
	place.Constraints = rapid.SampledFrom([][]string{nil, nil, {"node.labels.disk==ssd"}, {"node.labels.zone!=a"}}).Draw(w.T, "constraints")
	spec := shoal.TaskSpec{Placement: place, Container: &shoal.ContainerSpec{}}
	if rapid.Bool().Draw(w.T, "reserves") {
		spec.Resources = &shoal.ResourceRequirements{Reservations: &shoal.Resources{NanoCPUs: rapid.SampledFrom([]int64{5e8, 1e9}).Draw(w.T, "cpus")}}
	}
	if rapid.IntRange(0, 3).Draw(w.T, "driver") == 0 {
		spec.Container.Mounts = []shoal.Mount{{Type: "volume", Target: "/d", Volume: &shoal.VolumeOptions{Driver: &shoal.Driver{Name: "nfs"}}}}
	}
	if rapid.IntRange(0, 3).Draw(w.T, "port") == 0 {
		w.ports[service] = []shoal.Port{{Protocol: shoal.TCP, Published: 80, Mode: shoal.PublishHost}}
	}
	w.specs[service] = spec
	return spec
}

func (w *world) task() *shoal.Task {
	w.tasks++
	service := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(w.T, "service")
	t := task(uint64(w.tasks), w.spec(shoal.ServiceID(service)))
	t.ServiceID, t.Ports = shoal.ServiceID(service), w.ports[shoal.ServiceID(service)]
	if rapid.IntRange(0, 5).Draw(w.T, "global") == 0 {
		t.Slot, t.NodeID = 0, shoal.NodeID(fmt.Sprint("n", rapid.IntRange(1, 7).Draw(w.T, "preset")))
	}
	return t
}

// change draws what others than the scheduler do.
func (w *world) change(v store.View) store.Changes {
	var c store.Changes
	tasks := v.Tasks()
	slices.SortFunc(tasks, func(a, b *shoal.Task) int { return cmp.Compare(a.ID, b.ID) })
	nodes := v.Nodes()
	slices.SortFunc(nodes, func(a, b *shoal.Node) int { return cmp.Compare(a.ID, b.ID) })
	switch what := rapid.IntRange(0, 9).Draw(w.T, "change"); {
	case what < 3:
		c.Put(w.node())
	case what == 3 && len(nodes) > 0:
		c.Delete(rapid.SampledFrom(nodes).Draw(w.T, "gone"))
	case what < 6 && len(tasks) > 0:
		next := *rapid.SampledFrom(tasks).Draw(w.T, "moved")
		next.DesiredState = rapid.SampledFrom([]shoal.TaskState{next.DesiredState, shoal.TaskShutdown}).Draw(w.T, "desired")
		next.Status.State = max(next.Status.State, rapid.SampledFrom([]shoal.TaskState{shoal.TaskPending, shoal.TaskRunning, shoal.TaskFailed}).Draw(w.T, "reached"))
		c.Put(&next)
	case what == 7 && len(tasks) > 0: // tasks fail on a node
		on, age := rapid.SampledFrom(tasks).Draw(w.T, "where").NodeID, rapid.SampledFrom([]time.Duration{0, 4 * time.Minute, 6 * time.Minute}).Draw(w.T, "ago")
		for _, t := range tasks {
			if t.NodeID == on && rapid.IntRange(0, 3).Draw(w.T, "fails") > 0 {
				next := *t
				next.Status.State = max(t.Status.State, rapid.SampledFrom([]shoal.TaskState{shoal.TaskFailed, shoal.TaskRejected}).Draw(w.T, "how"))
				next.Status.Timestamp = v.Now().Add(-age)
				c.Put(&next)
			}
		}
	case what == 6 && len(tasks) > 0:
		c.Delete(rapid.SampledFrom(tasks).Draw(w.T, "forgotten"))
	default:
		for range rapid.IntRange(1, 6).Draw(w.T, "tasks") {
			c.Put(w.task())
		}
	}
	return c
}

// TestIndexDecidesAsThePlainDefinition runs one scheduler over views that follow from one another, or go back to before
// something that was not committed after all, and compares each decision with the plain one.
func TestIndexDecidesAsThePlainDefinition(t *testing.T) {
	s := storetest.Open(t, store.NewMemory())
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{T: rt, specs: map[shoal.ServiceID]shoal.TaskSpec{}, ports: map[shoal.ServiceID][]shoal.Port{}}
		scheduler := New(Config{})
		views := []store.View{s.View()}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			v := views[len(views)-1]
			if rapid.IntRange(0, 5).Draw(rt, "back") == 0 {
				v = rapid.SampledFrom(views).Draw(rt, "to")
			}
			for range rapid.IntRange(1, 4).Draw(rt, "changes") {
				v = v.With(w.change(v))
			}
			where, why := referencePlacement(v)
			c, err := scheduler.Reconcile(v, onlyKey)
			if err != nil {
				rt.Fatal(err)
			}
			after := v.With(c)
			for id, want := range where {
				if got := after.Task(id); got.NodeID != want || got.Status.State != shoal.TaskAssigned {
					rt.Fatalf("task %s of %s is %s on %q, not on %q (%s)", id, got.ServiceID, got.Status.State, got.NodeID, want, got.Status.Err)
				}
			}
			for id, want := range why {
				if got := after.Task(shoal.TaskID(id)); got.Status.Err != want || got.Status.State != shoal.TaskPending {
					rt.Fatalf("task %s of %s is %s: %q, not %q", id, got.ServiceID, got.Status.State, got.Status.Err, want)
				}
			}
			views = append(views, v, after)
		}
	})
}
