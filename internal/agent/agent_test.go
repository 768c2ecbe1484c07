package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// fakeRuntime has containers that run until they are stopped.
type fakeRuntime struct {
	agent.Runtime
	mu      sync.Mutex // guards all below
	found   []agent.TaskContainer
	running map[string]chan struct{} // closed when it ends
	starts  int
	removed []string
	faulty  shoal.TaskID // meets a fault when it is prepared
	unready shoal.TaskID // is not healthy yet
}

func (f *fakeRuntime) Tasks(context.Context) ([]agent.TaskContainer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found, nil
}

func (f *fakeRuntime) Prepare(_ context.Context, task *shoal.Task, _ agent.Dependencies) (string, error) {
	if task.ID == f.faulty {
		panic("no container")
	}
	return string("container-" + task.ID), nil
}

func (f *fakeRuntime) Start(_ context.Context, id string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[id] = make(chan struct{})
	f.starts++
	return 1, nil
}

func (f *fakeRuntime) Healthy(ctx context.Context, _ string, task *shoal.Task) error {
	if task.ID == f.unready {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (f *fakeRuntime) Wait(ctx context.Context, id string) (agent.Exit, error) {
	f.mu.Lock()
	end := f.running[id]
	f.mu.Unlock()
	select {
	case <-end:
		return agent.Exit{Code: 143}, nil
	case <-ctx.Done():
		return agent.Exit{}, ctx.Err()
	}
}

func (f *fakeRuntime) Stop(_ context.Context, id string, _ *shoal.Task) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end, ok := f.running[id]; ok {
		close(end)
		delete(f.running, id)
	}
	return nil
}

func (f *fakeRuntime) Remove(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, id)
	return nil
}

func (f *fakeRuntime) hasRemoved(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.removed, id)
}

func (f *fakeRuntime) runs(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running[id] != nil
}

// manager is a node protocol server whose sessions the test plays.
type manager struct {
	rpc.Handler
	addr     string
	sessions chan *session
}

type session struct {
	rpc.SessionServer
	t   *testing.T
	end chan error
}

func (m *manager) Session(stream rpc.SessionServer) error {
	s := &session{SessionServer: stream, end: make(chan error, 1)}
	select {
	case m.sessions <- s:
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
	select {
	case err := <-s.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// next is the next session that an agent opens, after its hello.
func (m *manager) next(t *testing.T) *session {
	t.Helper()
	select {
	case s := <-m.sessions:
		s.t = t
		if hello, err := s.Recv(); err != nil || hello.Hello == nil {
			t.Fatalf("a session begins with %+v, %v", hello, err)
		}
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("no session is opened")
		return nil
	}
}

func (s *session) say(m *rpc.ManagerMessage) {
	s.t.Helper()
	if err := s.Send(m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) welcome(heartbeat time.Duration, tasks ...shoal.Task) {
	s.t.Helper()
	s.say(&rpc.ManagerMessage{Welcome: &rpc.Welcome{Heartbeat: heartbeat}, Tasks: &rpc.Tasks{Full: true, Put: tasks}})
}

// awaitChange reads until a task is reported in a state. States must never go back on the way.
func (s *session) await(task shoal.TaskID, state shoal.TaskState) {
	s.t.Helper()
	var last shoal.TaskState
	for last != state {
		m, err := s.Recv()
		if err != nil {
			s.t.Fatalf("wait for %s to be %v: %v", task, state, err)
		}
		for _, r := range m.Statuses {
			if r.TaskID != task {
				continue
			}
			if r.Status.State < last {
				s.t.Errorf("%s goes from %v back to %v", task, last, r.Status.State)
			}
			last = r.Status.State
		}
		s.say(&rpc.ManagerMessage{}) // a sign of life
	}
}

// start runs managers and an agent that knows them.
func start(t *testing.T, runtime agent.Runtime, managers int, change ...func(*agent.Config)) []*manager {
	t.Helper()
	root, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	identity := newIdentity(t, root)
	var all []*manager
	var addrs []string
	for range managers {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		m := &manager{addr: listener.Addr().String(), sessions: make(chan *session)}
		server := rpc.NewServer(identity, m)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		t.Cleanup(func() {
			server.Stop()
			<-served //nolint:errcheck // stopped
		})
		all, addrs = append(all, m), append(addrs, m.addr)
	}
	cfg := agent.Config{
		Log: slog.New(slog.DiscardHandler), Managers: addrs, Runtime: runtime,
		Dial:       func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, identity.ClientTLS()) },
		Welcomed:   func(rpc.Welcome) {},
		Describe:   func() shoal.NodeDescription { return shoal.NodeDescription{} },
		ApplyTable: func(context.Context, *shoal.TableDelta) ([]shoal.NetworkID, error) { return nil, nil },
	}
	for _, f := range change {
		f(&cfg)
	}
	a := agent.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
	return all
}

func newIdentity(t *testing.T, root *ca.Root) *ca.Identity {
	t.Helper()
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, "node", "cluster", shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := ca.SaveIdentity(t.TempDir(), root.CertPEM, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func newTask(id shoal.TaskID) shoal.Task {
	return shoal.Task{
		ID: id, NodeID: "node", DesiredState: shoal.TaskRunning,
		Status: shoal.TaskStatus{State: shoal.TaskAssigned}, Spec: shoal.TaskSpec{Container: &shoal.ContainerSpec{}},
	}
}

const patient = time.Minute

func TestTasksOutliveTheSessionThatAssignedThem(t *testing.T) {
	runtime := &fakeRuntime{running: map[string]chan struct{}{}}
	managers := start(t, runtime, 2)
	first := managers[0].next(t)
	first.welcome(patient, newTask("t1"))
	first.await("t1", shoal.TaskRunning)
	first.end <- errors.New("the manager goes")
	second := managers[1].next(t) // the other one, at once
	second.welcome(patient, newTask("t1"))
	second.await("t1", shoal.TaskRunning) // said again: the new manager may not know
	if runtime.starts != 1 {
		t.Errorf("the task was started %d times", runtime.starts)
	}

	stopping := newTask("t1")
	stopping.DesiredState = shoal.TaskShutdown
	second.say(&rpc.ManagerMessage{Tasks: &rpc.Tasks{Put: []shoal.Task{stopping}}, Drained: []shoal.TaskID{"t1"}})
	second.await("t1", shoal.TaskShutdown)
}

// A daemon was killed right after it had reported a task as running. The next one began its session before the managers had written that, and took the task for one that
// nobody used yet when it was told to stop it: connections to it were refused.
func TestATaskWhoseReportCameLateIsDrainedLikeAnyOther(t *testing.T) {
	running := map[string]chan struct{}{"container-t1": make(chan struct{})}
	runtime := &fakeRuntime{running: running, unready: "t1", found: []agent.TaskContainer{{TaskID: "t1", ContainerID: "container-t1", Started: true, Running: true, PID: 1}}}
	manager := start(t, runtime, 1)[0].next(t)
	task := newTask("t1")
	task.Status.State = shoal.TaskStarting
	manager.welcome(patient, task)
	task.Status.State, task.DesiredState = shoal.TaskRunning, shoal.TaskShutdown
	manager.say(&rpc.ManagerMessage{Tasks: &rpc.Tasks{Put: []shoal.Task{task}}})
	for _, id := range []shoal.TaskID{"t2", "t3", "t4"} { // time enough to stop it
		manager.say(&rpc.ManagerMessage{Tasks: &rpc.Tasks{Put: []shoal.Task{newTask(id)}}})
		manager.await(id, shoal.TaskRunning)
	}
	if !runtime.runs("container-t1") {
		t.Fatal("the task was stopped before the managers said that nobody uses it")
	}
	manager.say(&rpc.ManagerMessage{Drained: []shoal.TaskID{"t1"}})
	manager.await("t1", shoal.TaskShutdown)
}

// A task that brought out a fault of the daemon ended it, and the next, wherever it was placed.
func TestATaskThatMeetsAFaultFails(t *testing.T) {
	runtime := &fakeRuntime{running: map[string]chan struct{}{}, faulty: "bad"}
	manager := start(t, runtime, 1)[0].next(t)
	manager.welcome(patient, newTask("bad"))
	manager.await("bad", shoal.TaskFailed)
	manager.say(&rpc.ManagerMessage{Tasks: &rpc.Tasks{Put: []shoal.Task{newTask("good")}}})
	manager.await("good", shoal.TaskRunning)
}

func TestAFullAssignmentRemovesStrayContainers(t *testing.T) {
	runtime := &fakeRuntime{running: map[string]chan struct{}{}, found: []agent.TaskContainer{{TaskID: "ghost", ContainerID: "container-ghost"}}}
	managers := start(t, runtime, 1)
	first := managers[0].next(t)
	first.welcome(patient, newTask("t1"), newTask("t2"))
	first.await("t1", shoal.TaskRunning)
	first.end <- errors.New("the manager goes")
	second := managers[0].next(t)
	second.welcome(patient, newTask("t2"))
	second.await("t2", shoal.TaskRunning)
	for _, id := range []string{"container-ghost", "container-t1"} {
		for deadline := time.Now().Add(10 * time.Second); !runtime.hasRemoved(id); {
			if time.Now().After(deadline) {
				t.Fatalf("%s is still there", id)
			}
			<-time.After(time.Millisecond)
		}
	}
	if runtime.hasRemoved("container-t2") {
		t.Error("an assigned task's container was removed")
	}
}

// A node that came back after it had been Down removed the containers of its replaced tasks at once, while its kernel still sent connections to them by the table of before:
// they were refused (2 of some 360,000 requests while daemons were killed on a busy machine).
func TestContainersOfReplacedTasksStayUntilTheTableIsApplied(t *testing.T) {
	runtime := &fakeRuntime{running: map[string]chan struct{}{}, found: []agent.TaskContainer{{TaskID: "ghost", ContainerID: "container-ghost", Started: true, Running: true}}}
	applying, apply := make(chan struct{}), make(chan struct{})
	manager := start(t, runtime, 1, func(c *agent.Config) {
		c.ApplyTable = func(context.Context, *shoal.TableDelta) ([]shoal.NetworkID, error) {
			close(applying)
			<-apply
			return nil, nil
		}
	})[0].next(t)
	manager.say(&rpc.ManagerMessage{Welcome: &rpc.Welcome{Heartbeat: patient}, Table: &shoal.TableDelta{Full: true, Version: 7},
		Tasks: &rpc.Tasks{Full: true, Put: []shoal.Task{newTask("t1")}}})
	<-applying
	for _, id := range []shoal.TaskID{"t1", "t2", "t3"} { // time enough to remove it
		manager.say(&rpc.ManagerMessage{Tasks: &rpc.Tasks{Put: []shoal.Task{newTask(id)}}})
		manager.await(id, shoal.TaskRunning)
	}
	if runtime.hasRemoved("container-ghost") {
		t.Error("the container was removed while the kernel went by the table of before")
	}
	close(apply)
	for deadline := time.Now().Add(10 * time.Second); !runtime.hasRemoved("container-ghost"); {
		if time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
		<-time.After(time.Millisecond)
	}
}

func TestAnAgentGoesWhereItIsSent(t *testing.T) {
	managers := start(t, &fakeRuntime{running: map[string]chan struct{}{}}, 3)
	s := managers[0].next(t)
	s.say(&rpc.ManagerMessage{Redirect: &rpc.Redirect{Leader: managers[2].addr}})
	s.end <- nil
	managers[2].next(t).welcome(patient)
}

func TestASilentManagerIsLeft(t *testing.T) {
	managers := start(t, &fakeRuntime{running: map[string]chan struct{}{}}, 2)
	managers[0].next(t).welcome(200 * time.Millisecond)
	managers[1].next(t).welcome(patient)
}

// The kernel of one node refused one network: the node never acknowledged a table again, and every drain of the cluster waited for it.
func TestATableThatTheKernelRefusesInPartIsAcknowledged(t *testing.T) {
	refused := errors.New("overlay broken: file exists")
	answers := make(chan []shoal.NetworkID, 3)
	for _, lagging := range [][]shoal.NetworkID{{"a", "b"}, {"b"}, nil} {
		answers <- lagging
	}
	managers := start(t, &fakeRuntime{running: map[string]chan struct{}{}}, 1, func(cfg *agent.Config) {
		cfg.ApplyTable = func(_ context.Context, delta *shoal.TableDelta) ([]shoal.NetworkID, error) {
			if delta.Networks["n"].ID != "n" {
				t.Error("what lagged is not tried again with all that it was")
			}
			return <-answers, refused // in the end another part is broken: that is not the agent's business
		}
	})
	s := managers[0].next(t)
	s.welcome(patient)
	s.say(&rpc.ManagerMessage{Table: &shoal.TableDelta{Full: true, Version: 7, Networks: map[shoal.NetworkID]shoal.Network{"n": {ID: "n"}}}})
	var said []string
	for len(said) < 3 {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.AppliedPartly != nil {
			said = append(said, fmt.Sprint(m.AppliedPartly.Version, m.AppliedPartly.Lagging))
		} else if m.Applied > 0 {
			said = append(said, fmt.Sprint(m.Applied))
		}
	}
	if want := []string{"7 [a b]", "7 [b]", "7"}; !slices.Equal(said, want) {
		t.Errorf("acknowledged %q, want %q", said, want)
	}
}

// What a fault of the daemon's own has left of a table is not known: nothing of it is acknowledged until it was applied.
func TestATableThatBringsOutAFaultIsTriedAgain(t *testing.T) {
	tries := 0
	managers := start(t, &fakeRuntime{running: map[string]chan struct{}{}}, 1, func(cfg *agent.Config) {
		cfg.ApplyTable = func(context.Context, *shoal.TableDelta) ([]shoal.NetworkID, error) {
			if tries++; tries == 1 {
				panic("a network without a gateway")
			}
			return nil, nil
		}
	})
	s := managers[0].next(t)
	s.welcome(patient)
	s.say(&rpc.ManagerMessage{Table: &shoal.TableDelta{Full: true, Version: 7, Networks: map[shoal.NetworkID]shoal.Network{"n": {ID: "n"}}}})
	var lagged []shoal.NetworkID
	for {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.AppliedPartly != nil {
			lagged = m.AppliedPartly.Lagging
		}
		if m.Applied == 7 {
			break
		}
	}
	if !slices.Equal(lagged, []shoal.NetworkID{"n"}) {
		t.Errorf("after the fault %v lagged, want n", lagged)
	}
}
