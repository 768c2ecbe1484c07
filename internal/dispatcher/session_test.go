package dispatcher

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// blockedAgent is an agent to which nothing can be sent, as when the network to it is cut off and the connection's buffers are full.
type blockedAgent struct{ *agent }

func (a blockedAgent) Send(*rpc.ManagerMessage) error {
	<-a.ctx.Done()
	return a.ctx.Err()
}

// A session once waited for the message that it was sending, so that a node that was cut off stayed Ready for hours.
func TestASilentAgentLosesItsSessionWhileAMessageIsSentToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, hangUp := context.WithCancel(asNode(context.Background(), "a"))
		defer hangUp()
		a := blockedAgent{&agent{ctx: ctx, hangUp: hangUp, say: make(chan *rpc.AgentMessage, 1), ended: make(chan error, 1)}}
		a.say <- &rpc.AgentMessage{Hello: &rpc.Hello{}}
		go func() { a.ended <- b.Session(a) }()
		<-time.After(2600 * time.Millisecond)
		synctest.Wait()
		select {
		case <-a.ended: //nolint:errcheck // that it ended is what matters
		default:
			t.Error("a silent agent still has its session")
		}
	})
}

// slowBackend is a store whose writes take long.
type slowBackend struct {
	*store.Memory
	mu   sync.Mutex // guards slow
	slow time.Duration
}

func (s *slowBackend) Txn(ctx context.Context, fence uint64, ops []store.Op) (uint64, error) {
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	select {
	case <-time.After(slow):
		return s.Memory.Txn(ctx, fence, ops)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// On a machine whose disk was slow for a while `swarm init` once failed: the manager welcomed its agent only after it had written two changes to the
// store, and the agent had given up by then, again and again.
func TestAnAgentIsWelcomedBeforeTheStoreHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowBackend{Memory: store.NewMemory()}
		b := newBenchOn(t, slow, slow.Memory)
		slow.mu.Lock()
		slow.slow = 5 * time.Second
		slow.mu.Unlock()
		a := b.connect("a")
		<-time.After(100 * time.Millisecond)
		if said := a.news(); len(said) == 0 || said[0].Welcome == nil {
			t.Fatalf("the manager says %+v", said)
		}
		for range 12 {
			<-time.After(time.Second)
			a.say <- &rpc.AgentMessage{}
		}
		synctest.Wait()
		if got := b.store.View().Node("a").DataAddr.String(); got != "10.0.0.1" {
			t.Errorf("the node is known with address %s", got)
		}
		if b.store.View().Node(shoal.NodeID("a")).Description.Hostname != "" {
			t.Error("what the agent says of its node is not recorded")
		}
	})
}
