package reconcile_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// cluster runs all controllers over a store in memory, with agents that do at once what they are told.
type cluster struct {
	store *store.Store
	stop  func()

	mu   sync.Mutex // guards dead, fail
	dead map[shoal.NodeID]bool
	fail map[string]bool // images whose tasks fail
}

func newCluster(nodes int) (*cluster, error) {
	backend := store.NewMemory()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := store.Open(ctx, store.Config{Backend: backend})
	if err != nil {
		cancel()
		return nil, err
	}
	c := &cluster{store: s, dead: map[shoal.NodeID]bool{}, fail: map[string]bool{}}
	var running sync.WaitGroup
	c.stop = func() {
		cancel()
		running.Wait()
	}
	loop := reconcile.New(reconcile.Config{Store: s, Leadership: backend, Controllers: []reconcile.Controller{
		orchestrator.New(orchestrator.Config{}), allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
	}})
	for _, run := range []func(context.Context) error{s.Run, loop.Run, c.agents} {
		running.Go(func() { _ = run(ctx) })
	}
	changes := store.Changes{Puts: []store.Object{
		&shoal.Cluster{ID: "cluster", Spec: shoal.ClusterSpec{Name: shoal.ClusterName, TaskHistoryLimit: 5}},
		&shoal.Network{ID: "ingress", Spec: shoal.NetworkSpec{Name: "ingress", Driver: shoal.DriverOverlay, Ingress: true}},
	}}
	for i := range nodes {
		changes.Put(&shoal.Node{
			ID: shoal.NodeID(fmt.Sprint("n", i+1)), Role: shoal.RoleWorker,
			Spec:        shoal.NodeSpec{Availability: shoal.AvailabilityActive},
			Status:      shoal.NodeStatus{State: shoal.NodeReady},
			Description: shoal.NodeDescription{Hostname: fmt.Sprint("n", i+1), Resources: shoal.Resources{NanoCPUs: 4e9, MemoryBytes: 8 << 30}},
		})
	}
	_, err = s.Commit(ctx, changes)
	return c, err
}

func start(t *testing.T, nodes int) *cluster {
	t.Helper()
	c, err := newCluster(nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	return c
}

// agents plays all nodes.
func (c *cluster) agents(ctx context.Context) error {
	_, sub := c.store.Subscribe()
	defer sub.Close()
	for { // what is there already comes first: the subscription only tells of what follows
		for ctx.Err() == nil {
			var changes store.Changes
			for _, t := range c.store.View().Tasks() {
				if next := c.answer(t); next != t.Status.State {
					moved := *t
					moved.Status.State, moved.Status.Timestamp = next, time.Now()
					changes.Put(&moved)
				}
			}
			if changes.Empty() {
				break
			}
			if _, err := c.store.Commit(ctx, changes); err != nil && !store.IsConflict(err) {
				return err
			}
		}
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
}

func (c *cluster) answer(t *shoal.Task) shoal.TaskState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.NodeID == "" || t.Status.State < shoal.TaskAssigned || t.Status.State.Ended() || c.dead[t.NodeID] {
		return t.Status.State
	}
	switch t.DesiredState {
	case shoal.TaskReady:
		return shoal.TaskReady
	case shoal.TaskRunning:
		if t.Spec.Container != nil && c.fail[t.Spec.Container.Image] {
			return shoal.TaskFailed
		}
		return shoal.TaskRunning
	case shoal.TaskComplete:
		return shoal.TaskComplete
	default:
		return shoal.TaskShutdown
	}
}

// edit reads an object, changes a copy and writes it, again if someone else was faster.
func edit[T any, P interface {
	*T
	store.Object
}](c *cluster, read func(store.View) P, change func(P)) error {
	for {
		next := *read(c.store.View())
		change(&next)
		_, err := c.store.Commit(context.Background(), store.Changes{Puts: []store.Object{P(&next)}})
		if !store.IsConflict(err) {
			return err
		}
	}
}

func (c *cluster) editService(id shoal.ServiceID, change func(*shoal.Service)) error {
	return edit(c, func(v store.View) *shoal.Service { return v.Service(id) }, func(s *shoal.Service) {
		change(s)
		s.SpecVersion++
	})
}

func (c *cluster) editNode(id shoal.NodeID, change func(*shoal.Node)) error {
	return edit(c, func(v store.View) *shoal.Node { return v.Node(id) }, change)
}

func (c *cluster) create(t interface{ Fatal(...any) }, s *shoal.Service) {
	if s.ID == "" {
		s.ID = shoal.ServiceID(s.Spec.Name)
	}
	if _, err := c.store.Commit(context.Background(), store.Changes{Puts: []store.Object{s}}); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until the state is as described; the reason tells what is amiss.
func (c *cluster) eventually(t interface {
	Helper()
	Fatalf(string, ...any)
}, reason func(store.View) string) {
	t.Helper()
	_, sub := c.store.Subscribe()
	defer sub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		why := reason(c.store.View())
		if why == "" {
			return
		}
		if _, err := sub.Next(ctx); err != nil {
			for _, task := range c.store.View().Tasks() {
				why += fmt.Sprintf("\n%s.%d on %q: %s, wants %s %s", task.ServiceName, task.Slot, task.NodeID, task.Status.State, task.DesiredState, task.Status.Err)
			}
			t.Fatalf("never: %s", why)
		}
	}
}

func replicated(name string, n uint64) *shoal.Service {
	return &shoal.Service{Spec: shoal.ServiceSpec{
		Name: name, Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &n}},
		Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "img"}},
	}}
}

func running(v store.View, service shoal.ServiceID) []*shoal.Task {
	var all []*shoal.Task
	for _, t := range v.TasksOfService(service) {
		if t.DesiredState == shoal.TaskRunning && t.Status.State == shoal.TaskRunning {
			all = append(all, t)
		}
	}
	return all
}

func runs(service shoal.ServiceID, n int) func(store.View) string {
	return func(v store.View) string {
		live := 0
		for _, t := range v.TasksOfService(service) {
			if t.DesiredState <= shoal.TaskRunning {
				live++
			}
		}
		if got := len(running(v, service)); got != n || live != n {
			return fmt.Sprintf("%d of %d tasks of %s run, want %d", got, live, service, n)
		}
		return ""
	}
}

func TestServiceLife(t *testing.T) {
	c := start(t, 3)
	web := replicated("web", 4)
	web.Spec.Endpoint = &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: 80, Published: 8080, Mode: shoal.PublishIngress}}}
	c.create(t, web)
	c.eventually(t, runs("web", 4))
	perNode := map[shoal.NodeID]int{}
	for _, task := range running(c.store.View(), "web") {
		perNode[task.NodeID]++
		if len(task.Networks) != 1 || task.Networks[0].NetworkID != "ingress" {
			t.Errorf("task has networks %+v", task.Networks)
		}
	}
	for n, count := range perNode {
		if count > 2 {
			t.Errorf("%d tasks on %s", count, n)
		}
	}
	s := c.store.View().Service("web")
	if len(s.Endpoint.VIPs) != 1 || len(s.Endpoint.Ports) != 1 {
		t.Errorf("endpoint %+v", s.Endpoint)
	}
	one := uint64(1)
	if err := c.editService("web", func(s *shoal.Service) { s.Spec.Mode.Replicated = &shoal.Replicated{Replicas: &one} }); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, func(v store.View) string {
		if n := len(v.TasksOfService("web")); n != 1 {
			return fmt.Sprintf("%d tasks after scale down", n)
		}
		return runs("web", 1)(v)
	})
	if _, err := c.store.Commit(t.Context(), store.Changes{Deletes: []store.Object{c.store.View().Service("web")}}); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, func(v store.View) string {
		if n := len(v.Tasks()); n != 0 {
			return fmt.Sprintf("%d tasks after removal", n)
		}
		return ""
	})
}

func TestNodeDownAndDrain(t *testing.T) {
	c := start(t, 3)
	c.create(t, replicated("web", 6))
	c.create(t, &shoal.Service{Spec: shoal.ServiceSpec{Name: "all", Mode: shoal.ServiceMode{Global: &shoal.Global{}}}})
	c.eventually(t, runs("web", 6))
	c.eventually(t, runs("all", 3))
	c.mu.Lock()
	c.dead["n1"] = true
	c.mu.Unlock()
	if err := c.editNode("n1", func(n *shoal.Node) { n.Status.State = shoal.NodeDown }); err != nil {
		t.Fatal(err)
	}
	if err := c.editNode("n2", func(n *shoal.Node) { n.Spec.Availability = shoal.AvailabilityDrain }); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, func(v store.View) string {
		for _, task := range running(v, "web") {
			if task.NodeID != "n3" {
				return string("a task on " + task.NodeID)
			}
		}
		return runs("web", 6)(v)
	})
	c.eventually(t, runs("all", 1))
	c.mu.Lock()
	delete(c.dead, "n1")
	c.mu.Unlock()
	if err := c.editNode("n1", func(n *shoal.Node) { n.Status.State = shoal.NodeReady }); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, runs("all", 2))
	c.eventually(t, runs("web", 6))
}

func TestUpdateReplacesTasks(t *testing.T) {
	for _, order := range []shoal.UpdateOrder{shoal.StopFirst, shoal.StartFirst} {
		t.Run(string(order), func(t *testing.T) {
			c := start(t, 2)
			web := replicated("web", 3)
			web.Spec.Update = &shoal.UpdateConfig{Parallelism: 2, Order: order, Monitor: time.Millisecond}
			c.create(t, web)
			c.eventually(t, runs("web", 3))
			if err := c.editService("web", func(s *shoal.Service) {
				s.Spec.Task.Container = &shoal.ContainerSpec{Image: "new"}
			}); err != nil {
				t.Fatal(err)
			}
			c.eventually(t, func(v store.View) string {
				for _, task := range running(v, "web") {
					if task.Spec.Container.Image != "new" {
						return "an old task runs"
					}
				}
				if s := v.Service("web").UpdateStatus; s == nil || s.State != shoal.UpdateCompleted {
					return fmt.Sprintf("update is %+v", s)
				}
				return runs("web", 3)(v)
			})
		})
	}
}

func TestFailedUpdateRollsBack(t *testing.T) {
	c := start(t, 2)
	c.fail["bad"] = true
	web := replicated("web", 2)
	web.Spec.Update = &shoal.UpdateConfig{Parallelism: 1, FailureAction: shoal.RollbackOnFailure}
	web.Spec.Rollback = &shoal.UpdateConfig{Parallelism: 1, Monitor: time.Millisecond}
	short := time.Millisecond
	web.Spec.Task.Restart = &shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: &short}
	c.create(t, web)
	c.eventually(t, runs("web", 2))
	if err := c.editService("web", func(s *shoal.Service) {
		old := s.Spec
		s.PreviousSpec = &old
		s.Spec.Task.Container = &shoal.ContainerSpec{Image: "bad"}
	}); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, func(v store.View) string {
		if s := v.Service("web").UpdateStatus; s == nil || s.State != shoal.UpdateRollbackCompleted {
			return fmt.Sprintf("update is %+v", s)
		}
		return runs("web", 2)(v)
	})
}

func TestUnplaceableTaskSaysWhy(t *testing.T) {
	c := start(t, 2)
	web := replicated("web", 1)
	web.Spec.Task.Placement = &shoal.Placement{Constraints: []string{"node.labels.disk==ssd"}}
	c.create(t, web)
	c.eventually(t, func(v store.View) string {
		for _, task := range v.TasksOfService("web") {
			if task.Status.Err == "no suitable node (scheduling constraints not satisfied on 2 nodes)" {
				return ""
			}
		}
		return "no explanation"
	})
	if err := c.editNode("n2", func(n *shoal.Node) { n.Spec.Labels = map[string]string{"disk": "ssd"} }); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, runs("web", 1))
}

func TestJobCompletes(t *testing.T) {
	c := start(t, 2)
	five, two := uint64(5), uint64(2)
	c.create(t, &shoal.Service{Spec: shoal.ServiceSpec{Name: "job", Mode: shoal.ServiceMode{
		ReplicatedJob: &shoal.ReplicatedJob{TotalCompletions: &five, MaxConcurrent: &two}}}})
	c.eventually(t, func(v store.View) string {
		done := 0
		for _, task := range v.TasksOfService("job") {
			if task.Status.State == shoal.TaskComplete {
				done++
			}
		}
		if done != 5 || len(v.TasksOfService("job")) != 5 {
			return fmt.Sprintf("%d of %d tasks have completed", done, len(v.TasksOfService("job")))
		}
		return ""
	})
}

// TestConverges changes services and nodes at random and checks that the cluster comes to rest as it should, and that at every
// revision no address has two owners and no slot two tasks that should run.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, err := newCluster(3)
		if err != nil {
			rt.Fatal(err)
		}
		defer c.stop()
		_, sub := c.store.Subscribe()
		defer sub.Close()
		want := map[string]uint64{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "service")
			n := rapid.Uint64Range(0, 5).Draw(rt, "replicas")
			switch rapid.IntRange(0, 3).Draw(rt, "action") {
			case 0, 1:
				if _, ok := want[name]; !ok {
					s := replicated(name, n)
					s.Spec.Endpoint = &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: 80, Mode: shoal.PublishIngress}}}
					c.create(rt, s)
				} else if err := c.editService(shoal.ServiceID(name), func(s *shoal.Service) {
					s.Spec.Mode.Replicated = &shoal.Replicated{Replicas: &n}
				}); err != nil {
					rt.Fatal(err)
				}
				want[name] = n
			case 2:
				node := rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "node")
				if err := c.editNode(shoal.NodeID(node), func(n *shoal.Node) {
					if n.Spec.Availability == shoal.AvailabilityDrain {
						n.Spec.Availability = shoal.AvailabilityActive
					} else {
						n.Spec.Availability = shoal.AvailabilityDrain
					}
				}); err != nil {
					rt.Fatal(err)
				}
			case 3:
				node := rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "node")
				if err := c.editNode(shoal.NodeID(node), func(n *shoal.Node) {
					if n.Status.State == shoal.NodeDown {
						n.Status.State = shoal.NodeReady
					} else {
						n.Status.State = shoal.NodeDown
					}
				}); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for name, n := range want {
			c.eventually(rt, runs(shoal.ServiceID(name), int(n)))
		}
		for _, batch := range sub.Take() {
			checkInvariants(rt, batch.View)
		}
	})
}

func checkInvariants(t interface{ Fatalf(string, ...any) }, v store.View) {
	owner := map[string]string{}
	checkOwner := func(addr netip.Prefix, who string) {
		p := addr
		if !p.IsValid() {
			t.Fatalf("%s has address %q", who, addr)
		}
		if other, taken := owner[p.Addr().String()]; taken {
			t.Fatalf("revision %d: %s and %s both have %s", v.Revision(), who, other, addr)
		}
		owner[p.Addr().String()] = who
	}
	slots := map[string]shoal.TaskID{}
	for _, task := range v.Tasks() {
		if task.Status.State.Ended() {
			continue
		}
		for _, at := range task.Networks {
			checkOwner(at.Addresses[0], "task "+string(task.ID))
		}
		if task.DesiredState == shoal.TaskRunning {
			slot := fmt.Sprint(task.ServiceID, ".", task.Slot)
			if other, taken := slots[slot]; taken {
				t.Fatalf("tasks %s and %s both want to run in %s", other, task.ID, slot)
			}
			slots[slot] = task.ID
		}
	}
	for _, s := range v.Services() {
		for _, vip := range s.Endpoint.VIPs {
			checkOwner(vip.Addr, "service "+string(s.ID))
		}
	}
	for _, n := range v.Nodes() {
		if n.IngressAddr.IsValid() {
			checkOwner(n.IngressAddr, "node "+string(n.ID))
		}
	}
}
