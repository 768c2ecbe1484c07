package membership_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// absent checks which nodes are marked as absent.
func (b *bench) absent(a, other bool) {
	b.t.Helper()
	synctest.Wait()
	for id, want := range map[shoal.NodeID]bool{"a": a, "b": other} {
		if got := b.store.View().Node(id).Status.Absent; got != want {
			b.t.Errorf("node %s is absent: %t, want %t", id, got, want)
		}
	}
}

func TestANodeWithoutASessionIsAbsentUntilItHasOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.up("a")
		b.up("b")
		b.absent(false, false)
		b.monitor.Lost("b", time.Now())
		b.absent(false, true)
		b.up("b")
		b.absent(false, false)
		b.up("b") // a second session before the first is known to have ended
		b.monitor.Lost("b", time.Now())
		b.absent(false, false)
		b.monitor.Lost("b", time.Now())
		b.after(heartbeatTimeout, shoal.NodeReady, shoal.NodeDown)
		b.absent(false, false) // Down says more
	})
}

// A task that was created just after a leader's death was placed on its node, and waited there until the node was Down.
func TestTheNextLeaderMarksTheOneThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.memory.Resign()
		synctest.Wait()
		b.monitor.Gone("a")
		b.absent(false, false)
		b.memory.Campaign()
		b.absent(true, false)
		b.up("a")
		b.absent(false, false)
	})
}
