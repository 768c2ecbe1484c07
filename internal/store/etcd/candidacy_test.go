package etcd_test

import (
	"context"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// newThree makes a cluster of three voting members. The first leads; the others would wait for 20 seconds before they stood for election.
func newThree(t *testing.T) (leader *etcd.Member, others [2]*etcd.Member) {
	t.Helper()
	leader, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t)})
	if err != nil {
		t.Fatal(err)
	}
	lead(t, leader)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, name := range []string{"n2", "n3"} {
		u := freeURL(t)
		initial, err := leader.Add(ctx, name, u)
		if err != nil {
			t.Fatal(err)
		}
		others[i] = start(t, etcd.Config{Dir: t.TempDir(), Name: name, PeerURL: u, Initial: initial, ElectionMs: 20_000})
		if err := leader.Promote(ctx, others[i].ID()); err != nil {
			t.Fatal(err)
		}
	}
	return leader, others
}

func TestALeaderThatIsGoneIsReplacedAtOnce(t *testing.T) {
	leader, others := newThree(t)
	id := leader.ID()
	leader.Kill()
	began := time.Now()
	for _, m := range others {
		go m.Stand(t.Context(), id) //nolint:errcheck // both learn of the end at the same time
	}
	for others[0].LeaderID() != others[0].ID() && others[0].LeaderID() != others[1].ID() {
		if time.Since(began) > 10*time.Second {
			t.Fatal("no new leader")
		}
		time.Sleep(time.Millisecond) // a poll
	}
	t.Logf("another member led after %v", time.Since(began))
}

func TestWhoStandsAgainstAnEarlierLeaderDeposesNobody(t *testing.T) {
	leader, others := newThree(t)
	epoch, _, _ := leader.Leader()
	for _, m := range append(others[:], leader) {
		if err := m.Stand(t.Context(), others[0].ID()); err != nil {
			t.Fatal(err)
		}
	}
	if now, leads, _ := leader.Leader(); !leads || now != epoch {
		t.Errorf("leads: %t in epoch %d, before in %d", leads, now, epoch)
	}
	leader.Kill()
}
