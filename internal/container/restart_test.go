package container

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// lateNetwork has no networks for the containers for a while.
type lateNetwork struct {
	plainNetwork
	missing  atomic.Bool
	attempts atomic.Int32
}

func (n *lateNetwork) Up(ctx context.Context, s shoal.SandboxSpec) (shoal.Sandbox, error) {
	if n.missing.Load() {
		n.attempts.Add(1)
		return shoal.Sandbox{}, errdefs.ErrNotFound.WithMessage("network front not found")
	}
	return n.plainNetwork.Up(ctx, s)
}

// within waits until the condition holds for the container.
func (n *node) within(limit time.Duration, id, what string, holds func(Info) bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		info, changed, err := n.engine.Watch(id)
		if err != nil {
			n.t.Fatal(err)
		}
		if holds(info) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			n.t.Fatalf("not within %v: %s; it is %+v", limit, what, info.State)
		}
	}
}

// After a reboot a container on an overlay was started before a manager had told of the overlay, and then never again.
func TestAContainerWhoseNetworkComesLateIsStartedThen(t *testing.T) {
	n := newNode(t)
	network := &lateNetwork{plainNetwork: plainNetwork{"shoalt-"}}
	n.engine.Network = network
	sleeping := Spec{Cmd: []string{"sleep", "1000"}, Restart: Restart{Name: "always"}}
	id, stopped := n.run(sleeping), n.run(sleeping)
	network.missing.Store(true)
	for _, id := range []string{id, stopped} {
		info, err := n.engine.Inspect(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(info.State.PID, syscall.SIGKILL); err != nil { // it ends by itself, as after a reboot
			t.Fatal(err)
		}
		n.within(10*time.Second, id, "the missing network is in its state", func(i Info) bool { return i.State.Status == Restarting && i.State.Error != "" })
	}
	if err := n.engine.Stop(t.Context(), stopped, 0); err != nil {
		t.Fatal(err)
	}
	seen := network.attempts.Load()
	n.within(10*time.Second, id, "it is tried again and again", func(Info) bool { return network.attempts.Load() > seen+1 })
	network.missing.Store(false)
	n.within(20*time.Second, id, "it runs", func(i Info) bool { return i.State.Status == Running })
	if info, err := n.engine.Inspect(stopped); err != nil || info.State.Status != Exited {
		t.Errorf("the one that was stopped meanwhile: %+v, %v", info.State, err)
	}
}
