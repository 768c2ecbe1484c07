package sim

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// play makes random events happen in a world and checks what the controllers do.
type play struct {
	*rapid.T
	*world
	faults bool
	flight map[uint64]bool // slots that an update has taken down and not brought up again
}

func (p *play) tasks() []*shoal.Task {
	all := p.view.Tasks()
	slices.SortFunc(all, func(a, b *shoal.Task) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (p *play) service() *shoal.Service {
	return p.view.Service(shoal.ServiceID(rapid.SampledFrom([]string{"web", "all", "job"}).Draw(p.T, "service")))
}

func (p *play) node() *shoal.Node {
	n := *p.view.Node(shoal.NodeID(fmt.Sprint("n", rapid.IntRange(1, 4).Draw(p.T, "node"))))
	return &n
}

func (p *play) create() {
	replicas, completions, concurrent := rapid.Uint64Range(1, 5).Draw(p.T, "replicas"), uint64(4), uint64(2)
	update := &shoal.UpdateConfig{
		Parallelism: rapid.Uint64Range(0, 3).Draw(p.T, "parallelism"), Delay: rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(p.T, "delay"),
		Order:         rapid.SampledFrom([]shoal.UpdateOrder{shoal.StopFirst, shoal.StartFirst}).Draw(p.T, "order"),
		FailureAction: rapid.SampledFrom([]shoal.FailureAction{shoal.PauseOnFailure, shoal.ContinueOnFailure, shoal.RollbackOnFailure}).Draw(p.T, "action"),
	}
	for name, mode := range map[string]shoal.ServiceMode{
		"web": {Replicated: &shoal.Replicated{Replicas: &replicas}}, "all": {Global: &shoal.Global{}},
		"job": {ReplicatedJob: &shoal.ReplicatedJob{MaxConcurrent: &concurrent, TotalCompletions: &completions}},
	} {
		spec := shoal.ServiceSpec{Name: name, Mode: mode, Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "0"}}}
		if !mode.IsJob() {
			spec.Update, spec.Rollback = update, update
		}
		p.put(&shoal.Service{ID: shoal.ServiceID(name), Spec: spec})
	}
}

// change writes a new spec as the API does.
func (p *play) change(s *shoal.Service, edit func(*shoal.ServiceSpec)) {
	next, previous := *s, s.Spec
	edit(&next.Spec)
	next.PreviousSpec, next.UpdateStatus = &previous, nil
	next.SpecVersion++
	p.put(&next)
}

func (p *play) image() {
	p.change(p.service(), func(spec *shoal.ServiceSpec) {
		spec.Task.Container = &shoal.ContainerSpec{Image: fmt.Sprint(rapid.IntRange(0, 3).Draw(p.T, "image"))}
	})
}

// move makes one random event happen.
func (p *play) move() {
	tasks := p.tasks()
	kinds := 8
	if p.faults {
		kinds = 14
	}
	switch what := rapid.IntRange(0, kinds).Draw(p.T, "move"); what {
	case 0, 1, 2, 3:
		for range rapid.IntRange(1, 6).Draw(p.T, "steps") {
			if len(tasks) > 0 {
				p.advance(rapid.SampledFrom(tasks).Draw(p.T, "task"))
			}
		}
	case 4, 5:
		p.judged()
	case 6:
		p.now = p.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 6 * time.Second, time.Minute}).Draw(p.T, "later"))
	case 7:
		p.image()
	case 8:
		for _, t := range tasks {
			p.advance(t)
		}
	default:
		p.fault(what, tasks)
	}
}

func (p *play) advance(t *shoal.Task) {
	t = p.view.Task(t.ID)
	n := p.view.Node(t.NodeID)
	if next := step(t); next != t.Status.State && n != nil && n.Status.State == shoal.NodeReady {
		p.put(observe(t, next, p.now))
	}
}

func (p *play) fault(what int, tasks []*shoal.Task) {
	switch what {
	case 9, 10:
		if len(tasks) > 0 {
			t := p.view.Task(rapid.SampledFrom(tasks).Draw(p.T, "victim").ID)
			if t.Status.State >= shoal.TaskPreparing && !t.Status.State.Ended() {
				p.put(observe(t, rapid.SampledFrom([]shoal.TaskState{shoal.TaskFailed, shoal.TaskRejected, shoal.TaskComplete}).Draw(p.T, "end"), p.now))
			}
		}
	case 11:
		n := p.node()
		n.Status.State = rapid.SampledFrom([]shoal.NodeState{shoal.NodeReady, shoal.NodeDown}).Draw(p.T, "verdict")
		p.put(n)
	case 12:
		n := p.node()
		n.Spec.Availability = rapid.SampledFrom([]shoal.Availability{shoal.AvailabilityActive, shoal.AvailabilityPause, shoal.AvailabilityDrain}).Draw(p.T, "availability")
		p.put(n)
	case 13:
		n := p.node()
		n.Spec.Labels = map[string]string{"disk": rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(p.T, "disk")}
		p.put(n)
	default:
		replicas := rapid.Uint64Range(0, 6).Draw(p.T, "scale")
		p.change(p.view.Service("web"), func(spec *shoal.ServiceSpec) {
			spec.Mode.Replicated = &shoal.Replicated{Replicas: &replicas}
			spec.Task.Placement = &shoal.Placement{Constraints: rapid.SampledFrom([][]string{nil, {"node.labels.disk!=hdd"}}).Draw(p.T, "constraints")}
		})
	}
}

// judged runs the controllers and checks the result.
func (p *play) judged() {
	before := p.view
	p.land()
	if !p.reconcile() {
		p.Fatal("the controllers do not come to rest")
	}
	p.checkSlots()
	p.checkUpdate(before)
}

// land notes which slots in flight have a task that came to run, or that failed, or are wanted no more.
func (p *play) land() {
	for slot := range p.flight {
		wanted := false
		for _, t := range p.view.TasksOfSlot("web", slot) {
			wanted = wanted || (t.DesiredState <= shoal.TaskRunning && !t.Status.State.Ended() && !up(t))
		}
		if !wanted {
			delete(p.flight, slot)
		}
	}
}

// checkSlots: never two tasks of a slot wanted running, save the overlap of start-first.
func (p *play) checkSlots() {
	wanted := map[string]int{}
	for _, t := range p.view.Tasks() {
		if t.DesiredState == shoal.TaskRunning && !t.Status.State.Ended() {
			wanted[fmt.Sprint(t.ServiceID, ".", t.Slot, t.Slot == 0, t.NodeID)]++
			if t.Slot > 0 {
				wanted[fmt.Sprint(t.ServiceID, ".", t.Slot)]++
			}
		}
	}
	for place, n := range wanted {
		limit := 1
		if p.view.Service("web").Spec.Update.Order == shoal.StartFirst {
			limit = 2
		}
		if n > limit {
			p.Fatalf("%d tasks are wanted in %s", n, place)
		}
	}
}

// checkUpdate: an update takes down no more than its parallelism at once, and with start-first nothing that has no replacement.
func (p *play) checkUpdate(before store.View) {
	was, is := before.Service("web"), p.view.Service("web")
	cfg := is.Spec.Update
	taken := 0
	for _, t := range before.TasksOfService("web") {
		now := p.view.Task(t.ID)
		if !up(t) || now == nil || now.DesiredState != shoal.TaskShutdown || !fitFor(before.Node(t.NodeID), t) {
			continue
		}
		if slices.ContainsFunc(p.view.TasksOfSlot("web", t.Slot), up) {
			continue
		}
		taken++
		p.flight[t.Slot] = true
	}
	if taken == 0 {
		return
	}
	if cfg.Order == shoal.StartFirst && was.Spec.Update.Order == shoal.StartFirst {
		p.Fatalf("start-first took down %d tasks without a replacement", taken)
	}
	if cfg.Parallelism > 0 && len(p.flight) > int(cfg.Parallelism) {
		p.Fatalf("%d slots are down at once, %d of them now; parallelism is %d", len(p.flight), taken, cfg.Parallelism)
	}
}

// fitFor tells whether a node may keep a task, by the task's own rules.
func fitFor(n *shoal.Node, t *shoal.Task) bool {
	return fit(n, &shoal.Service{Spec: shoal.ServiceSpec{Task: t.Spec}})
}

// converge ends all faults, gives the service a good spec and lets time pass.
func (p *play) converge() {
	for i := range 4 {
		n := *p.view.Node(shoal.NodeID(fmt.Sprint("n", i+1)))
		n.Status.State, n.Spec = shoal.NodeReady, shoal.NodeSpec{Availability: shoal.AvailabilityActive}
		p.put(&n)
	}
	for _, s := range p.view.Services() {
		p.change(s, func(spec *shoal.ServiceSpec) { spec.Task.ForceUpdate++ })
	}
	for range 400 {
		before := p.view.Mark()
		p.judged()
		for _, t := range p.tasks() {
			p.advance(t)
		}
		if p.view.Mark() == before {
			if p.due.IsZero() {
				return
			}
			p.now = p.due
		}
	}
	p.Fatal("the cluster does not come to rest")
}

func (p *play) checkResult() {
	for _, s := range p.view.Services() {
		want := 4 // nodes; the job's completions
		if s.Spec.Mode.Replicated != nil {
			want = int(s.Spec.Replicas())
		}
		got := 0
		for _, t := range p.view.TasksOfService(s.ID) {
			good := up(t)
			if s.Spec.Mode.IsJob() {
				good = t.Status.State == shoal.TaskComplete
			}
			if good && t.Spec.ForceUpdate == s.Spec.Task.ForceUpdate {
				got++
			} else if !t.Status.State.Ended() {
				p.Fatalf("task %s of %s is left %s, wants %s", t.ID, s.ID, t.Status.State, t.DesiredState)
			}
		}
		if got != want {
			p.Fatalf("%s has %d good tasks, not %d", s.ID, got, want)
		}
		if u := s.UpdateStatus; u != nil && u.State != shoal.UpdateCompleted {
			p.Fatalf("the update of %s is %s", s.ID, u.State)
		}
	}
}

// TestPlannersConverge: from any state under any interleaving of failures, losses and new specs the cluster comes to rest as its
// services ask, and on the way never exceeds what an update may take.
func TestPlannersConverge(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(rt *rapid.T) {
		p := &play{T: rt, world: newWorld(empty, 4), faults: true, flight: map[uint64]bool{}}
		p.create()
		for range rapid.IntRange(1, 60).Draw(rt, "moves") {
			p.move()
		}
		p.converge()
		p.checkResult()
	})
}

// TestUpdatesKeepTheirPromise: without faults, any number of new specs at any time leave at least the replicas running that the
// update's order and parallelism promise.
func TestUpdatesKeepTheirPromise(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(rt *rapid.T) {
		p := &play{T: rt, world: newWorld(empty, 4), flight: map[uint64]bool{}}
		p.create()
		p.converge()
		spec := p.view.Service("web").Spec
		least := int(spec.Replicas())
		if spec.Update.Order == shoal.StopFirst {
			least -= int(spec.Update.Parallelism)
		}
		if spec.Update.Order == shoal.StopFirst && spec.Update.Parallelism == 0 {
			least = 0
		}
		for range rapid.IntRange(1, 60).Draw(rt, "moves") {
			p.move()
			running := map[uint64]bool{}
			for _, t := range p.view.TasksOfService("web") {
				if up(t) {
					running[t.Slot] = true
				}
			}
			if len(running) < least {
				rt.Fatalf("%d slots run, %d are promised", len(running), least)
			}
		}
		p.converge()
		p.checkResult()
	})
}
