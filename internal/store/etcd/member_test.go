package etcd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

func freeURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func start(t *testing.T, cfg etcd.Config) *etcd.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := etcd.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestBackend(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Backend {
		return start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t), HeartbeatMs: 10, ElectionMs: 100})
	})
}

func lead(t *testing.T, m *etcd.Member) uint64 {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
	deadline := time.After(20 * time.Second)
	for {
		epoch, leading, leadershipChanged := m.Leader()
		if leading {
			return epoch
		}
		select {
		case <-leadershipChanged:
		case <-deadline:
			t.Fatal("no leader")
		}
	}
}

// A write whose answer died with the leader is acknowledged, even if others have written over it before it was asked for again.
func TestAWriteIsFoundUnderLaterOnes(t *testing.T) {
	m := start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t), HeartbeatMs: 10, ElectionMs: 100})
	write := func(value string, over uint64) uint64 {
		t.Helper()
		at, err := m.Txn(t.Context(), 0, []store.Op{{Key: "/shoal/x", Value: []byte(value), If: over}})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := write("first", 0)
	second := write("second", first)
	third := write("third", second)
	for _, test := range []struct {
		value string
		over  uint64
		at    uint64 // 0: not written
	}{
		{"first", 0, first}, {"second", first, second}, {"third", second, third},
		{"other", 0, 0}, {"other", first, 0}, {"other", second, 0}, {"third", first, 0}, {"third", third, 0}, {"third", store.AnyRevision, third}, {"second", store.AnyRevision, 0},
	} {
		if at, ok := m.Written(t.Context(), []store.Op{{Key: "/shoal/x", Value: []byte(test.value), If: test.over}}); at != test.at || ok != (test.at != 0) {
			t.Errorf("%s over %d: written at %d, %t; want %d", test.value, test.over, at, ok, test.at)
		}
	}
}

func TestMembersComeAndGo(t *testing.T) {
	first := start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t)})
	if epoch := lead(t, first); epoch == 0 {
		t.Fatal("leads without an epoch")
	}
	s := storetest.Open(t, first)
	if _, err := s.Commit(t.Context(), store.Changes{Puts: []store.Object{&shoal.Node{ID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u := freeURL(t)
	initial, err := first.Add(ctx, "n2", u)
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, etcd.Config{Dir: t.TempDir(), Name: "n2", PeerURL: u, Initial: initial})
	if err := first.Promote(ctx, second.ID()); err != nil {
		t.Fatal(err)
	}
	other := storetest.Open(t, second)
	if other.View().Node("x") == nil {
		t.Fatal("new member lacks what was written before")
	}
	if _, err := other.Commit(ctx, store.Changes{Puts: []store.Object{&shoal.Node{ID: "y"}}}); err != nil {
		t.Fatal(err)
	}
	members, err := first.Members(ctx)
	if err != nil || len(members) != 2 {
		t.Fatal(fmt.Sprint(members), err)
	}
	if err := first.Remove(ctx, second.ID()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Done():
	case <-ctx.Done():
		t.Fatal("a removed member goes on")
	}
	if _, err := s.Commit(ctx, store.Changes{Puts: []store.Object{&shoal.Node{ID: "z"}}}); err != nil {
		t.Fatal(err)
	}
}

// deaf passes connections on to a member, but breaks off the first ones.
func deaf(t *testing.T, member string, first int32) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	var taken atomic.Int32
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			if taken.Add(1) <= first {
				_ = in.Close()
				continue
			}
			out, err := net.Dial("tcp", member)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
	return listener.Addr().String()
}

func TestAMemberJoinsOthersThatDoNotAnswerAtOnce(t *testing.T) {
	own := freeURL(t)
	public := "http://" + deaf(t, strings.TrimPrefix(own, "http://"), 2)
	first := start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: public, ListenURL: own})
	lead(t, first)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u := freeURL(t)
	initial, err := first.Add(ctx, "n2", u)
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, etcd.Config{Dir: t.TempDir(), Name: "n2", PeerURL: u, Initial: initial})
	if err := first.Promote(ctx, second.ID()); err != nil {
		t.Fatal(err)
	}
}

func TestALeaderWithoutAMajorityKnowsIt(t *testing.T) {
	first := start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t)})
	lead(t, first)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u := freeURL(t)
	initial, err := first.Add(ctx, "n2", u)
	if err != nil {
		t.Fatal(err)
	}
	second, err := etcd.Start(ctx, etcd.Config{Dir: t.TempDir(), Name: "n2", PeerURL: u, Initial: initial})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Promote(ctx, second.ID()); err != nil {
		t.Fatal(err)
	}
	_, leading, leadershipChanged := first.Leader()
	if !leading {
		t.Fatal("the first member does not lead")
	}
	second.Close()
	begin := time.Now()
	select {
	case <-leadershipChanged:
		t.Logf("after %v", time.Since(begin))
	case <-ctx.Done():
		t.Fatal("it leads on")
	}
}

func TestAMemberMayComeBackAtOnce(t *testing.T) {
	first := start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t)})
	lead(t, first)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u := freeURL(t)
	for range 3 {
		if _, err := first.Add(ctx, "n2", u); err != nil {
			t.Fatal(err)
		}
		members, err := first.Members(ctx)
		if err != nil || len(members) != 2 {
			t.Fatalf("members %+v, %v", members, err)
		}
		for _, m := range members {
			if m.PeerURL == u {
				if err := first.Remove(ctx, m.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
