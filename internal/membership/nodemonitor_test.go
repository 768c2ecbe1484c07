package membership_test

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

const heartbeatTimeout = 2500 * time.Millisecond

// bench is a store with two nodes and a judge.
type bench struct {
	t       *testing.T
	memory  *store.Memory
	store   *store.Store
	monitor *membership.NodeMonitor
	stall   atomic.Int64 // how long the monitor is to stand still when it looks next
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, memory: store.NewMemory()}
	b.store = storetest.Open(t, b.memory)
	b.put(&shoal.Node{ID: "a", Status: shoal.NodeStatus{State: shoal.NodeReady}})
	b.put(&shoal.Node{ID: "b", Status: shoal.NodeStatus{State: shoal.NodeReady}})
	b.monitor = membership.NewNodeMonitor(slog.New(slog.DiscardHandler), "self", b.store, b.memory, func(store.View) time.Duration {
		if stall := b.stall.Swap(0); stall != 0 {
			<-time.After(time.Duration(stall))
		}
		return heartbeatTimeout
	})
	b.background(b.monitor.Run)
	return b
}

// background runs something until the test ends.
func (b *bench) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
}

func (b *bench) put(o store.Object) {
	b.t.Helper()
	if _, err := b.store.Commit(b.t.Context(), store.Changes{Puts: []store.Object{o}}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) up(id shoal.NodeID) {
	b.t.Helper()
	if err := b.monitor.Up(b.t.Context(), id, netip.MustParseAddr("10.0.0.1")); err != nil {
		b.t.Fatal(err)
	}
}

// after lets time pass and then checks what the nodes are.
func (b *bench) after(d time.Duration, a, other shoal.NodeState) {
	b.t.Helper()
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
	for id, want := range map[shoal.NodeID]shoal.NodeState{"a": a, "b": other} {
		if got := b.store.View().Node(id).Status.State; got != want {
			b.t.Errorf("node %s is %s, want %s", id, got, want)
		}
	}
}

func TestASilentNodeIsDownWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.up("a")
		b.up("b")
		b.monitor.Lost("b", time.Now())
		b.after(heartbeatTimeout-time.Millisecond, shoal.NodeReady, shoal.NodeReady)
		b.after(time.Millisecond, shoal.NodeReady, shoal.NodeDown)
		b.up("b")
		b.after(0, shoal.NodeReady, shoal.NodeReady)
	})
}

// The sole manager of a starved machine declared its own node down, over and over, and replaced its tasks.
func TestAManagersOwnNodeIsNeverDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(&shoal.Node{ID: "self", Status: shoal.NodeStatus{State: shoal.NodeReady}})
		b.up("a")
		b.up("b")
		b.up("self")
		b.monitor.Lost("self", time.Now())
		b.monitor.Lost("b", time.Now())
		b.after(3*heartbeatTimeout, shoal.NodeReady, shoal.NodeDown)
		if got := b.store.View().Node("self").Status.State; got != shoal.NodeReady {
			t.Errorf("the manager's own node is %s", got)
		}
	})
}

func TestANodeThatComesBackInTimeStaysReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.up("a")
		b.up("b")
		b.monitor.Lost("b", time.Now())
		b.after(heartbeatTimeout/2, shoal.NodeReady, shoal.NodeReady)
		b.up("b")
		b.up("b") // a second session before the first is known to have ended
		b.monitor.Lost("b", time.Now())
		b.after(2*heartbeatTimeout, shoal.NodeReady, shoal.NodeReady)
	})
}

// A manager whose process was stopped for 30 s once took all nodes for silent, and replaced their tasks.
func TestAManagerThatWasStalledAccusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.up("a")
		b.up("b")
		b.after(time.Second, shoal.NodeReady, shoal.NodeReady)
		heard := time.Now()
		b.stall.Store(int64(30 * time.Second))
		<-time.After(29 * time.Second)
		b.monitor.Lost("a", heard) // the sessions end when the process goes on: their time is over
		b.monitor.Lost("b", heard)
		b.after(3*time.Second, shoal.NodeReady, shoal.NodeReady)
		b.up("a") // b does not come back
		b.after(heartbeatTimeout, shoal.NodeReady, shoal.NodeDown)
	})
}

// Agents that had no leader for long, and wait for managers that are switched off, need more time to find the one that is back.
func TestARestartedManagerGivesEveryNodeMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		monitor := membership.NewNodeMonitor(slog.New(slog.DiscardHandler), "self", b.store, b.memory, func(store.View) time.Duration { return heartbeatTimeout })
		monitor.Restarted()
		b.up("a")
		b.up("b")
		b.background(monitor.Run)
		b.after(2*heartbeatTimeout, shoal.NodeReady, shoal.NodeReady)
		b.after(heartbeatTimeout, shoal.NodeDown, shoal.NodeDown)
	})
}

func TestANewLeaderGivesEveryNodeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.memory.Resign()
		b.after(2*heartbeatTimeout, shoal.NodeReady, shoal.NodeReady) // who does not lead does not judge
		b.memory.Campaign()
		b.after(heartbeatTimeout/2, shoal.NodeReady, shoal.NodeReady)
		b.up("a")
		b.after(heartbeatTimeout/2, shoal.NodeReady, shoal.NodeDown)
		b.after(heartbeatTimeout, shoal.NodeReady, shoal.NodeDown)
	})
}
