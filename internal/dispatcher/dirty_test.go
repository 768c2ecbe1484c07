package dispatcher

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

func drawAddress(t *rapid.T, first, last byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, rapid.ByteRange(first, last).Draw(t, "address")}), 24)
}

// drawObject is a random object of the few that the test works with.
func drawObject(t *rapid.T) store.Object {
	id := func(kind string, count int) string {
		return fmt.Sprint(kind, rapid.IntRange(1, count).Draw(t, kind))
	}
	switch rapid.IntRange(0, 10).Draw(t, "kind") {
	case 0:
		return &shoal.Node{ID: shoal.NodeID(id("n", 3)), DataAddr: rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}).Draw(t, "addr"),
			Status: shoal.NodeStatus{State: rapid.SampledFrom([]shoal.NodeState{shoal.NodeReady, shoal.NodeDown}).Draw(t, "state")}}
	case 1:
		network := id("net", 3)
		n := &shoal.Network{ID: shoal.NetworkID(network), VNI: 4096, Spec: shoal.NetworkSpec{Name: network, Ingress: network == "net1"}}
		if rapid.Bool().Draw(t, "encrypted") {
			n.Spec.Options = map[string]string{shoal.OptionEncrypted: ""}
		}
		return n
	case 10:
		return &shoal.Cluster{ID: "c", TunnelSecret: []byte(rapid.SampledFrom([]string{"one", "two"}).Draw(t, "secret"))}
	case 2, 3:
		s := &shoal.Service{ID: shoal.ServiceID(id("s", 3))}
		s.Spec.Name = string(s.ID)
		for range rapid.IntRange(0, 2).Draw(t, "vips") {
			s.Endpoint.VIPs = append(s.Endpoint.VIPs, shoal.VIP{NetworkID: shoal.NetworkID(id("net", 3)), Addr: drawAddress(t, 2, 4)})
		}
		if rapid.Bool().Draw(t, "published") {
			s.Endpoint.Ports = []shoal.Port{{Protocol: shoal.TCP, Target: 80, Published: 8080, Mode: shoal.PublishIngress}}
		}
		return s
	default:
		task := &shoal.Task{ID: shoal.TaskID(id("t", 6)), NodeID: shoal.NodeID(id("n", 3)), ServiceID: shoal.ServiceID(id("s", 3))}
		task.DesiredState = rapid.SampledFrom([]shoal.TaskState{shoal.TaskRunning, shoal.TaskShutdown}).Draw(t, "desired")
		task.Status.State = rapid.SampledFrom([]shoal.TaskState{shoal.TaskPending, shoal.TaskAssigned, shoal.TaskRunning, shoal.TaskFailed}).Draw(t, "observed")
		for _, network := range rapid.SliceOfNDistinct(rapid.SampledFrom([]shoal.NetworkID{"net1", "net2", "net3"}), 0, 2, rapid.ID).Draw(t, "networks") {
			task.Networks = append(task.Networks, shoal.TaskNetwork{NetworkID: network, Addresses: []netip.Prefix{drawAddress(t, 10, 20)}})
		}
		return task
	}
}

// TestDeltasFollowTheStore holds what a session would send, delta by delta, against TableOf, through random changes.
func TestDeltasFollowTheStore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		view := storetest.Open(t, store.NewMemory()).View()
		d := New(Config{Log: slog.New(slog.DiscardHandler)})
		s := newSession(d, "n1", nil, nil)
		d.sessions["n1"] = s
		var agent shoal.Table
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			o := drawObject(rt)
			change := store.Change{Kind: store.KindOf(o), ID: o.ObjectID(), Old: view.Get(store.KindOf(o), o.ObjectID())}
			if change.Old != nil && rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
				view = view.With(store.Changes{Deletes: []store.Object{o}})
			} else {
				change.New = o
				view = view.With(store.Changes{Puts: []store.Object{o}})
			}
			d.markChangeLocked(change, view)
			if rapid.Bool().Draw(rt, "more at once") {
				continue
			}
			if delta := s.nextTable(view, s.dirty); delta != nil {
				delta.ApplyTo(&agent)
			}
			s.dirty = newDirtySet()
			want := TableOf(view, "n1")
			if agent.Version = want.Version; !reflect.DeepEqual(agent, want) {
				rt.Fatalf("after %s %s: the agent has\n%+v, want\n%+v", change.Kind, change.ID, agent, want)
			}
		}
	})
}
