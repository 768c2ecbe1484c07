package membership_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// fakeMembers is a store's membership that obeys at once.
type fakeMembers struct {
	membership.Members
	mu  sync.Mutex // guards all
	all []membership.Member
}

func (f *fakeMembers) List(context.Context) ([]membership.Member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all), nil
}

func (f *fakeMembers) Remove(ctx context.Context, node shoal.NodeID) error {
	return f.RemoveMember(ctx, string(node))
}

func (f *fakeMembers) RemoveMember(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(m membership.Member) bool { return m.ID == id })
	return nil
}

func (f *fakeMembers) Promote(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.all {
		f.all[i].Learner = f.all[i].Learner && f.all[i].ID != id
	}
	return nil
}

func (f *fakeMembers) has(id string) bool {
	all, _ := f.List(context.Background())
	return slices.ContainsFunc(all, func(m membership.Member) bool { return m.ID == id && !m.Learner })
}

func managerNode(id shoal.NodeID, role shoal.NodeRole) *shoal.Node {
	return &shoal.Node{
		ID: id, Spec: shoal.NodeSpec{Role: role}, Role: shoal.RoleManager,
		Manager: &shoal.ManagerStatus{PeerURL: string("https://" + id)},
	}
}

func TestTheSecretOfEncryptedTrafficIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(&shoal.Cluster{ID: "c", Spec: shoal.ClusterSpec{Name: shoal.ClusterName}})
		roster := &membership.Roster{Log: slog.New(slog.DiscardHandler), Store: b.store, Members: &fakeMembers{}, Leadership: b.memory}
		b.background(roster.Run)
		secretAfter := func(d time.Duration) string {
			<-time.After(d)
			synctest.Wait()
			return string(b.store.View().Cluster().TunnelSecret)
		}
		first := secretAfter(3 * time.Second)
		if len(first) != 32 {
			t.Fatalf("secret has %d bytes", len(first))
		}
		if secretAfter(11*time.Hour) != first {
			t.Error("the secret was renewed too early")
		}
		if second := secretAfter(2 * time.Hour); second == first || len(second) != 32 {
			t.Error("the secret was not renewed")
		}
	})
}

func TestTheRosterFollowsTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(managerNode("m1", shoal.RoleManager))
		b.put(managerNode("m2", shoal.RoleManager))
		b.put(managerNode("m3", shoal.RoleManager))
		members := &fakeMembers{all: []membership.Member{
			{ID: "m1", PeerURL: "https://m1", Started: true}, {ID: "m2", PeerURL: "https://m2", Started: true},
			{ID: "m3", PeerURL: "https://m3", Started: true, Learner: true}, {ID: "ghost", PeerURL: "https://ghost"},
		}}
		resigned := make(chan struct{}, 10)
		roster := &membership.Roster{
			Log: slog.New(slog.DiscardHandler), Node: "m1", Store: b.store, Members: members, Leadership: b.memory,
			Resign: func() error { resigned <- struct{}{}; return nil },
		}
		b.background(roster.Run)
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		pass(3 * time.Second)
		if !members.has("m3") {
			t.Error("the learner has no vote")
		}
		if !members.has("ghost") {
			t.Error("a member was removed at first sight: the view may have been behind")
		}
		pass(3 * time.Second)
		if members.has("ghost") {
			t.Error("the member of no node is still there")
		}

		demoted := *b.store.View().Node("m2")
		demoted.Spec.Role = shoal.RoleWorker
		b.put(&demoted)
		pass(0)
		if members.has("m2") || b.store.View().Node("m2").Manager != nil {
			t.Error("the demoted manager is still one")
		}

		self := *b.store.View().Node("m1")
		self.Spec.Role = shoal.RoleWorker
		b.put(&self)
		pass(0)
		if len(resigned) == 0 || !members.has("m1") {
			t.Error("the leader must leave its own demotion to the next one")
		}
	})
}

// The store learns of a manager's new address a moment before or after the node's object does. The manager must not remove itself for that.
func TestAManagerWithAnotherAddressDoesNotRemoveItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		self := managerNode("m1", shoal.RoleManager)
		self.Manager.MemberID = "m1"
		b.put(self)
		members := &fakeMembers{all: []membership.Member{{ID: "m1", PeerURL: "https://m1-before", Started: true}}}
		roster := &membership.Roster{Log: slog.New(slog.DiscardHandler), Node: "m1", Store: b.store, Members: members, Leadership: b.memory}
		b.background(roster.Run)
		<-time.After(10 * time.Second)
		synctest.Wait()
		if !members.has("m1") {
			t.Error("the manager has removed itself from the store")
		}
	})
}
