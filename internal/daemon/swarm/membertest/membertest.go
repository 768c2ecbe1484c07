// Package membertest is the conformance suite of swarm.Member, which the members of etcd and of testcluster pass, as they do storetest. It writes to the
// members that it starts.
package membertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/store"
)

// Machines starts members, each on a machine of its own that has the member's name.
type Machines interface {
	// PeerURL is where a member is reached.
	PeerURL(name string) string
	// Start starts a member with the data on its machine. initial is what Add returned; nil for a member that founds the store or has data.
	Start(ctx context.Context, name string, initial map[string]string) (swarm.Member, error)
}

// Run tests members. in has to call the test with new machines, and in a bubble of testing/synctest if they need virtual time.
func Run(t *testing.T, in func(t *testing.T, test func(t *testing.T, machines Machines))) {
	for name, test := range map[string]func(*testing.T, *members){
		"JoinAndLeave": joinAndLeave, "Resign": resign, "NoMajority": noMajority, "Restart": restart, "Bounds": bounds,
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, machines Machines) { test(t, newMembers(t, machines)) })
		})
	}
}

// members starts members and runs them until the test ends.
type members struct {
	t        *testing.T
	machines Machines
	closed   map[swarm.Member]bool
}

func newMembers(t *testing.T, machines Machines) *members {
	return &members{t, machines, map[swarm.Member]bool{}}
}

func (m *members) start(name string, initial map[string]string) swarm.Member {
	m.t.Helper()
	member, err := m.machines.Start(m.t.Context(), name, initial)
	if err != nil {
		m.t.Fatalf("start %s: %v", name, err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	go func() { done <- member.Run(ctx) }()
	m.t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
		m.close(member)
	})
	return member
}

// close closes a member, once.
func (m *members) close(member swarm.Member) {
	if !m.closed[member] {
		m.closed[member] = true
		member.Close()
	}
}

// join adds a member with a vote.
func (m *members) join(first swarm.Member, name string) swarm.Member {
	m.t.Helper()
	initial, err := first.Add(m.t.Context(), name, m.machines.PeerURL(name))
	if err != nil {
		m.t.Fatalf("add %s: %v", name, err)
	}
	if initial[name] != m.machines.PeerURL(name) {
		m.t.Fatalf("a new member is to start with %v", initial)
	}
	member := m.start(name, initial)
	if !member.Learner() {
		m.t.Fatal("a new member has a vote at once")
	}
	if err := first.Promote(m.t.Context(), member.ID()); err != nil {
		m.t.Fatalf("promote %s: %v", name, err)
	}
	m.until(name+" has its vote", func() bool { return !member.Learner() })
	return member
}

func (m *members) until(what string, holds func() bool) {
	m.t.Helper()
	const interval = 10 * time.Millisecond
	for !holds() {
		select {
		case <-m.t.Context().Done():
			m.t.Fatalf("never: %s", what)
		case <-time.After(interval):
		}
	}
}

// awaitLeadership waits until a member leads and gives its epoch.
func (m *members) awaitLeadership(member swarm.Member) (epoch uint64) {
	m.t.Helper()
	m.until("a member leads", func() bool {
		var leads bool
		epoch, leads, _ = member.Leader()
		return leads
	})
	return epoch
}

func (m *members) put(member swarm.Member, key string) {
	m.t.Helper()
	if _, err := member.Txn(m.t.Context(), 0, put(key)); err != nil {
		m.t.Fatalf("write %s: %v", key, err)
	}
}

func put(key string) []store.Op {
	return []store.Op{{Key: store.Prefix + key, Value: []byte("value"), If: store.AnyRevision}}
}

func (m *members) has(member swarm.Member, key string) bool {
	m.t.Helper()
	records, _, err := member.Load(m.t.Context())
	if err != nil {
		m.t.Fatalf("load: %v", err)
	}
	for _, r := range records {
		if r.Key == store.Prefix+key {
			return true
		}
	}
	return false
}

func joinAndLeave(t *testing.T, m *members) {
	first := m.start("a", nil)
	m.awaitLeadership(first)
	m.put(first, "before")
	second := m.join(first, "b")
	if !m.has(second, "before") {
		t.Error("a new member lacks what was written before")
	}
	m.put(second, "after")
	all, err := first.Members(m.t.Context())
	if err != nil || len(all) != 2 || all[0].PeerURL == all[1].PeerURL {
		t.Errorf("the members are %+v, %v", all, err)
	}
	if again, err := first.Add(m.t.Context(), "b", m.machines.PeerURL("b")); err != nil || len(again) != 2 {
		t.Errorf("adding a member again gives %v, %v", again, err)
	}
	if err := first.Remove(m.t.Context(), second.ID()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Done():
	case <-m.t.Context().Done():
		t.Fatal("a removed member goes on")
	}
	if err := first.Remove(m.t.Context(), second.ID()); err != nil {
		t.Errorf("removing a member again: %v", err)
	}
	m.put(first, "alone")
	if !m.has(first, "after") {
		t.Error("what the removed member wrote is lost")
	}
}

func resign(t *testing.T, m *members) {
	first := m.start("a", nil)
	before := m.awaitLeadership(first)
	if err := first.Resign(); err != nil {
		t.Errorf("the only member resigns: %v", err)
	}
	second := m.join(first, "b")
	_, _, leadershipChanged := first.Leader()
	if err := first.Resign(); err != nil {
		t.Fatal(err)
	}
	after := m.awaitLeadership(second)
	select {
	case <-leadershipChanged:
	case <-m.t.Context().Done():
		t.Fatal("a former leader is not notified")
	}
	if _, leads, _ := first.Leader(); leads || after <= before {
		t.Errorf("after epoch %d of the first comes %d of the second; the first leads: %v", before, after, leads)
	}
	m.until("both know the leader", func() bool { return first.LeaderID() == second.ID() && second.LeaderID() == second.ID() })
	if _, err := first.Txn(m.t.Context(), before, put("late")); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a write in a past epoch ends with %v", err)
	}
	if _, err := first.Txn(m.t.Context(), after, put("now")); err != nil {
		t.Errorf("a write in the present epoch ends with %v", err)
	}
}

func noMajority(t *testing.T, m *members) {
	first := m.start("a", nil)
	m.awaitLeadership(first)
	second := m.join(first, "b")
	m.close(second)
	m.until("the leader knows that it has no majority", func() bool {
		_, leads, _ := first.Leader()
		return !leads
	})
	limited, cancel := context.WithTimeout(m.t.Context(), time.Second)
	defer cancel()
	if _, err := first.Txn(limited, 0, put("unheard")); err == nil {
		t.Error("a write without a majority succeeds")
	}
}

func restart(t *testing.T, m *members) {
	first := m.start("a", nil)
	before := m.awaitLeadership(first)
	m.put(first, "kept")
	id := first.ID()
	m.close(first)
	second := m.start("a", nil)
	if after := m.awaitLeadership(second); second.ID() != id || after <= before {
		t.Errorf("member %s of epoch %d comes back as %s of epoch %d", id, before, second.ID(), after)
	}
	if !m.has(second, "kept") {
		t.Error("a restarted member has lost what was written")
	}
}

func bounds(t *testing.T, m *members) {
	const most = store.MaxTxnOps
	first := m.start("a", nil)
	m.awaitLeadership(first)
	var ops []store.Op
	for i := range most {
		ops = append(ops, put(fmt.Sprint("key", i))...)
	}
	if _, err := first.Txn(m.t.Context(), 0, ops); err != nil {
		t.Errorf("a transaction of %d operations ends with %v", most, err)
	}
	if _, err := first.Txn(m.t.Context(), 0, append(ops, put("one more")...)); err == nil {
		t.Errorf("a transaction of %d operations succeeds", most+1)
	}
}
