package dispatcher

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// leadership is a memory backend's, with a name for the leader.
type leadership struct{ *store.Memory }

func (leadership) LeaderID() string { return "m2" }

type nodeMonitor struct{}

func (nodeMonitor) Up(context.Context, shoal.NodeID, netip.Addr) error { return nil }
func (nodeMonitor) Lost(shoal.NodeID, time.Time)                       {}

// bench is a dispatcher on a store in memory, inside a synctest bubble.
type bench struct {
	*Dispatcher
	t      *testing.T
	store  *store.Store
	memory *store.Memory
	agents map[shoal.NodeID]*agent // for idle
}

func newBench(t *testing.T) *bench {
	memory := store.NewMemory()
	return newBenchOn(t, memory, memory)
}

func newBenchOn(t *testing.T, backend store.Backend, memory *store.Memory) *bench {
	s := storetest.Open(t, backend)
	b := &bench{t: t, store: s, memory: memory, Dispatcher: New(Config{
		Log: slog.New(slog.DiscardHandler), Store: s, NodeMonitor: nodeMonitor{}, Leadership: leadership{memory},
		Managers: func(store.View) []string { return []string{"m1:2377"} },
		Trust:    func(store.View) ([]byte, []byte) { return nil, nil },
	})}
	for _, id := range []shoal.NodeID{"a", "b", "c"} {
		b.put(&shoal.Node{ID: id, Description: shoal.NodeDescription{Hostname: string("host-" + id)}, Status: shoal.NodeStatus{State: shoal.NodeReady}})
	}
	b.put(&shoal.Node{ID: "m2", Manager: &shoal.ManagerStatus{MemberID: "m2", Addr: "m2:2377"}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
	return b
}

// down marks a node as Down.
func (b *bench) down(id shoal.NodeID) {
	b.t.Helper()
	node := *b.store.View().Node(id)
	node.Status.State = shoal.NodeDown
	b.put(&node)
}

// idle lets time pass, in which agents send heartbeats.
func (b *bench) idle(d time.Duration, nodes ...shoal.NodeID) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-time.After(time.Second)
		for _, id := range nodes {
			b.agents[id].say <- &rpc.AgentMessage{}
		}
	}
	synctest.Wait()
}

func (b *bench) put(o store.Object) {
	b.t.Helper()
	if _, err := b.store.Commit(b.t.Context(), store.Changes{Puts: []store.Object{o}}); err != nil {
		b.t.Fatal(err)
	}
}

// asNode is a context of a call by a node.
func asNode(ctx context.Context, id shoal.NodeID) context.Context {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: string(id)}}
	return peer.NewContext(ctx, &peer.Peer{
		Addr:     &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1},
		AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}},
	})
}

// agent is the other end of a session.
type agent struct {
	grpc.ServerStream
	ctx       context.Context
	say       chan *rpc.AgentMessage
	lastHeard chan *rpc.ManagerMessage
	ended     chan error
	hangUp    context.CancelFunc

	toldDrained []shoal.TaskID // by messages that applyTable has read
	lastTable   uint64         // the newest that acknowledge has read
}

func (a *agent) Context() context.Context { return a.ctx }

func (a *agent) Send(m *rpc.ManagerMessage) error {
	a.lastHeard <- m
	return nil
}

func (a *agent) Recv() (*rpc.AgentMessage, error) {
	select {
	case m := <-a.say:
		return m, nil
	case <-a.ctx.Done():
		return nil, io.EOF
	}
}

// connect opens a session for a node.
func (b *bench) connect(id shoal.NodeID) *agent {
	ctx, hangUp := context.WithCancel(asNode(context.Background(), id))
	a := &agent{
		ctx: ctx, hangUp: hangUp, say: make(chan *rpc.AgentMessage, 100), lastHeard: make(chan *rpc.ManagerMessage, 1000),
		ended: make(chan error, 1),
	}
	a.say <- &rpc.AgentMessage{Hello: &rpc.Hello{}}
	go func() { a.ended <- b.Session(a) }()
	b.t.Cleanup(hangUp)
	synctest.Wait()
	return a
}

// news is all that the manager has said since.
func (a *agent) news() (all []*rpc.ManagerMessage) {
	synctest.Wait()
	for {
		select {
		case m := <-a.lastHeard:
			all = append(all, m)
		default:
			return all
		}
	}
}

// drained is the tasks that the agent was told to be drained, and table the newest table version.
func (a *agent) drained() (tasks []shoal.TaskID, table uint64) {
	for _, m := range a.news() {
		tasks = append(tasks, m.Drained...)
		if m.Table != nil {
			table = m.Table.Version
		}
	}
	return tasks, table
}

// applyTable reads what the manager has said and acknowledges the newest table among it.
func (a *agent) applyTable() {
	drained, table := a.drained()
	a.toldDrained = append(a.toldDrained, drained...)
	if table > 0 {
		a.say <- &rpc.AgentMessage{Applied: table}
	}
	drained, _ = a.drained()
	a.toldDrained = append(a.toldDrained, drained...)
}

// acknowledge reads what the manager has said and acknowledges the newest table there ever was, except for one network.
func (a *agent) acknowledge(lagging shoal.NetworkID) {
	if _, table := a.drained(); table > 0 {
		a.lastTable = table
	}
	msg := &rpc.AgentMessage{Applied: a.lastTable}
	if lagging != "" {
		msg = &rpc.AgentMessage{AppliedPartly: &rpc.AppliedPartly{Version: a.lastTable, Lagging: []shoal.NetworkID{lagging}}}
	}
	a.say <- msg
	synctest.Wait()
}

func task(id shoal.TaskID, node shoal.NodeID) *shoal.Task {
	return &shoal.Task{
		ID: id, NodeID: node, ServiceID: "s", DesiredState: shoal.TaskRunning,
		Status:   shoal.TaskStatus{State: shoal.TaskRunning},
		Networks: []shoal.TaskNetwork{{NetworkID: "net", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.3/24")}}},
	}
}

func TestOnlyTheLeaderHoldsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		a := b.connect("a")
		if said := a.news(); said[0].Welcome == nil {
			t.Errorf("a session begins with %+v", said[0])
		} else if last := said[len(said)-1]; last.Tasks == nil || !last.Tasks.Full || last.Table == nil || !last.Table.Full {
			t.Errorf("a session does not begin with all there is: %+v", last)
		}
		b.memory.Resign()
		synctest.Wait()
		select {
		case <-a.ended: //nolint:errcheck // that it ended is what matters
		default:
			t.Error("the session outlives the leadership")
		}
		a = b.connect("a")
		if said := a.news(); len(said) != 1 || said[0].Redirect == nil || said[0].Redirect.Leader != "m2:2377" {
			t.Errorf("who does not lead says %+v", said)
		}
	})
}

func TestASilentAgentLosesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		a := b.connect("a")
		a.news()
		for range 10 {
			<-time.After(2 * time.Second)
			a.say <- &rpc.AgentMessage{}
			if len(a.news()) == 0 {
				t.Fatal("the manager gives no sign of life")
			}
		}
		<-time.After(2600 * time.Millisecond)
		synctest.Wait()
		select {
		case <-a.ended: //nolint:errcheck // that it ended is what matters
		default:
			t.Error("a silent agent still has its session")
		}
	})
}

func TestANewSessionTakesThePlaceOfTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		first := b.connect("a")
		second := b.connect("a")
		select {
		case err := <-first.ended:
			if err == nil {
				t.Error("the old session ended in good order")
			}
		default:
			t.Error("the old session goes on")
		}
		second.news()
		b.put(task("t1", "a"))
		found := false
		for _, m := range second.news() {
			found = found || m.Tasks != nil && len(m.Tasks.Put) == 1 && m.Tasks.Put[0].ID == "t1"
		}
		if !found {
			t.Error("the new session is not told of a task")
		}
	})
}

func TestATaskIsDrainedWhenEveryNodeHasLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(&shoal.Network{ID: "net", Spec: shoal.NetworkSpec{Name: "net"}})
		b.put(task("t1", "a"))
		b.put(task("t2", "b")) // b is on the network, c is not
		nodes := map[shoal.NodeID]*agent{"a": b.connect("a"), "b": b.connect("b"), "c": b.connect("c")}
		for _, a := range nodes {
			_, table := a.drained()
			a.say <- &rpc.AgentMessage{Applied: table}
		}
		synctest.Wait()
		stopping := *b.store.View().Task("t1")
		stopping.DesiredState = shoal.TaskShutdown
		b.put(&stopping)
		versions := map[shoal.NodeID]uint64{}
		for id, a := range nodes {
			announced, table := a.drained()
			if len(announced) != 0 {
				t.Errorf("%s is told of %v before anyone has let go", id, announced)
			}
			versions[id] = table
		}
		if versions["a"] == 0 || versions["b"] == 0 || versions["c"] != 0 {
			t.Fatalf("tables went out: %v", versions)
		}
		nodes["a"].say <- &rpc.AgentMessage{Applied: versions["a"]}
		if announced, _ := nodes["a"].drained(); len(announced) != 0 {
			t.Error("told although b has not let go")
		}
		nodes["b"].say <- &rpc.AgentMessage{Applied: versions["b"]}
		if announced, _ := nodes["a"].drained(); !slices.Equal(announced, []shoal.TaskID{"t1"}) {
			t.Errorf("told of %v, want t1", announced)
		}
	})
}

// A node whose session has broken goes on sending connections to a task by the tables that its kernel has.
func TestADrainWaitsForANodeWhoseSessionHasBroken(t *testing.T) {
	const overlay, ingress = "net", "ingress"
	for _, test := range []struct {
		name    string
		network shoal.NetworkID // of the task that is to stop
		node    shoal.NodeID    // whose session breaks; b has a task on the overlay, c has none
		then    func(*bench)
		drained bool
	}{
		{"away", overlay, "b", func(*bench) {}, false},
		{"back", overlay, "b", func(b *bench) { b.connect("b") }, false},
		{"back, tables applied", overlay, "b", func(b *bench) { b.connect("b").applyTable() }, true},
		{"down since a moment", overlay, "b", func(b *bench) { b.down("b") }, false},
		{"down since a moment, removed", overlay, "b", func(b *bench) {
			b.down("b")
			if _, err := b.store.Commit(b.t.Context(), store.Changes{Deletes: []store.Object{b.store.View().Node("b")}}); err != nil {
				b.t.Fatal(err)
			}
		}, true},
		{"down for longer than a start takes", overlay, "b", func(b *bench) {
			b.down("b")
			b.idle(startGrace, "a", "c")
		}, true},
		{"down for long when the drain begins", overlay, "", func(b *bench) {
			b.down("b")
			b.idle(startGrace, "a", "c")
		}, true},
		{"removed", overlay, "b", func(b *bench) {
			if _, err := b.store.Commit(b.t.Context(), store.Changes{Deletes: []store.Object{b.store.View().Node("b")}}); err != nil {
				b.t.Fatal(err)
			}
		}, true},
		{"away, without a task on the network", overlay, "c", func(*bench) {}, true},
		{"away, published on every node", ingress, "c", func(*bench) {}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.put(&shoal.Network{ID: overlay, VNI: 4097, Spec: shoal.NetworkSpec{Name: "net"}})
				b.put(&shoal.Network{ID: ingress, VNI: 4096, Spec: shoal.NetworkSpec{Name: "ingress", Ingress: true}})
				leaving := task("t1", "a")
				leaving.Networks[0].NetworkID = test.network
				b.put(leaving)
				b.put(task("t2", "b"))
				agents := map[shoal.NodeID]*agent{"a": b.connect("a"), "b": b.connect("b"), "c": b.connect("c")}
				for _, a := range agents {
					a.applyTable()
				}
				b.agents = agents
				if test.node == "" {
					test.then(b)
					test.then = func(*bench) {}
					test.node = "b"
				}
				agents[test.node].hangUp()
				synctest.Wait()
				stopping := *b.store.View().Task("t1")
				stopping.DesiredState = shoal.TaskShutdown
				b.put(&stopping)
				for id, a := range agents {
					if id != test.node && id != "a" {
						a.applyTable()
					}
				}
				agents["a"].applyTable()
				test.then(b)
				agents["a"].applyTable()
				if got := slices.Contains(agents["a"].toldDrained, "t1"); got != test.drained {
					t.Errorf("told that the task is drained: %t, want %t", got, test.drained)
				}
			})
		})
	}
}

// One network that the kernel of one node refused kept that node from acknowledging its table at all, and so every drain of the cluster waited for its grace.
func TestADrainWaitsOnlyForNodesThatLagOnItsNetworks(t *testing.T) {
	for _, test := range []struct {
		name    string
		network shoal.NetworkID // of the task that is to stop
		then    func(*bench, *agent)
		drained bool
	}{
		{"on another network", "net", nil, true},
		{"on its network", "broken", nil, false},
		{"on its network, applied since", "broken", func(_ *bench, b *agent) { b.acknowledge("") }, true},
		{"on its network, another lags since", "broken", func(_ *bench, b *agent) { b.acknowledge("net") }, true},
		{"on its network, gone since", "broken", func(_ *bench, b *agent) { b.hangUp() }, false},
		{"on another network, gone since", "net", func(_ *bench, b *agent) { b.hangUp() }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				for i, id := range []shoal.NetworkID{"net", "broken"} {
					b.put(&shoal.Network{ID: id, VNI: uint32(4097 + i), Spec: shoal.NetworkSpec{Name: string(id)}})
				}
				leaving, other := task("t1", "a"), task("t2", "b")
				leaving.Networks[0].NetworkID = test.network
				other.Networks = append(slices.Clone(other.Networks), other.Networks[0])
				other.Networks[1].NetworkID = "broken"
				b.put(leaving)
				b.put(other)
				at, lagging := b.connect("a"), b.connect("b")
				at.applyTable()
				lagging.acknowledge("broken")
				stopping := *b.store.View().Task("t1")
				stopping.DesiredState = shoal.TaskShutdown
				b.put(&stopping)
				lagging.acknowledge("broken")
				if test.then != nil {
					test.then(b, lagging)
					synctest.Wait()
				}
				at.applyTable()
				if got := slices.Contains(at.toldDrained, "t1"); got != test.drained {
					t.Errorf("told that the task is drained: %t, want %t", got, test.drained)
				}
			})
		})
	}
}

// A node that is slow to apply a table has nothing to do with tasks on networks that it takes no part in.
func TestADrainDoesNotWaitForNodesOnOtherNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(&shoal.Network{ID: "net", VNI: 4097, Spec: shoal.NetworkSpec{Name: "net"}})
		b.put(&shoal.Network{ID: "other", VNI: 4098, Spec: shoal.NetworkSpec{Name: "other"}})
		b.put(task("t1", "a"))
		elsewhere := task("t2", "b")
		elsewhere.Networks[0].NetworkID = "other"
		b.put(elsewhere)
		at, slow := b.connect("a"), b.connect("b")
		at.applyTable()
		slow.news() // never applied
		stopping := *b.store.View().Task("t1")
		stopping.DesiredState = shoal.TaskShutdown
		b.put(&stopping)
		at.applyTable()
		if !slices.Contains(at.toldDrained, "t1") {
			t.Error("not told that the task is drained")
		}
	})
}

// A manager that has just come to lead does not know what the tables of nodes say that have not called yet.
func TestADrainUnderANewLeaderWaitsForNodesThatHaveNotCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(&shoal.Network{ID: "net", VNI: 4097, Spec: shoal.NetworkSpec{Name: "net"}})
		leaving := task("t1", "a")
		leaving.DesiredState = shoal.TaskShutdown
		b.put(leaving)
		b.put(task("t2", "b"))
		a := b.connect("a")
		a.applyTable()
		if len(a.toldDrained) > 0 {
			t.Fatalf("told that %v are drained before b has called", a.toldDrained)
		}
		b.connect("b").applyTable()
		a.applyTable()
		if !slices.Contains(a.toldDrained, "t1") {
			t.Error("not told that the task is drained")
		}
	})
}

func TestLogsWithAMissingNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(task("t1", "a"))
		b.put(task("t2", "b"))
		a := b.connect("a")
		a.news()
		var lines []shoal.LogLine
		ended := make(chan error, 1)
		go func() {
			ended <- b.Logs(context.Background(), shoal.LogQuery{TaskIDs: []shoal.TaskID{"t1", "t2"}, Follow: true}, func(l shoal.LogLine) error {
				lines = append(lines, l)
				return nil
			})
		}()
		asked := a.news()
		if len(asked) != 1 || asked[0].Logs == nil || !slices.Equal(asked[0].Logs.Query.TaskIDs, []shoal.TaskID{"t1"}) {
			t.Fatalf("the node is asked %+v", asked)
		}
		a.hangUp() // before it has answered
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil || len(lines) != 2 || lines[0].NodeID != "b" || lines[0].Err != "node host-b is not available" || lines[1].NodeID != "a" || lines[1].Err == "" {
				t.Errorf("lines %+v, %v", lines, err)
			}
		default:
			t.Error("a node that is gone is waited for")
		}
	})
}

func TestObservedStatesNeverGoBack(t *testing.T) {
	states := []shoal.TaskState{shoal.TaskAssigned, shoal.TaskPreparing, shoal.TaskRunning, shoal.TaskShutdown, shoal.TaskFailed}
	view := storetest.Open(t, store.NewMemory()).View()
	begin := time.Unix(0, 0)
	rapid.Check(t, func(t *rapid.T) {
		current := &shoal.Task{ID: "t", NodeID: "a", Status: shoal.TaskStatus{State: shoal.TaskAssigned}}
		for i := range rapid.IntRange(1, 10).Draw(t, "reports") {
			r := report{
				node:   rapid.SampledFrom([]shoal.NodeID{"a", "b"}).Draw(t, "node"),
				status: shoal.TaskStatus{State: rapid.SampledFrom(states).Draw(t, "state"), Timestamp: begin.Add(time.Duration(i))},
			}
			v := view.With(store.Changes{Puts: []store.Object{current}})
			changes := statusChanges(v, map[shoal.TaskID]report{"t": r}, 0)
			if len(changes.Puts) == 0 {
				if r.node == "a" && r.status.State > current.Status.State {
					t.Fatalf("progress to %v is ignored", r.status.State)
				}
				continue
			}
			next, ok := changes.Puts[0].(*shoal.Task)
			if !ok || r.node != "a" || next.Status.State < current.Status.State {
				t.Fatalf("%v becomes %v on the word of %s", current.Status.State, next.Status.State, r.node)
			}
			current = next
		}
	})
}
