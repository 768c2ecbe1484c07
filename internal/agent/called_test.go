package agent_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// serveAt runs a manager of a cluster at an address, and gives its port.
func serveAt(t *testing.T, identity *ca.Identity, addr string) (*manager, string) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{sessions: make(chan *session), addr: listener.Addr().String()}
	server := rpc.NewServer(identity, m)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served //nolint:errcheck // stopped
	})
	_, port, err := net.SplitHostPort(m.addr)
	if err != nil {
		t.Fatal(err)
	}
	return m, port
}

// A node that knew its managers only where they were no more was lost. A call tells it of another address, whoever sent it: what is there must be a manager of
// its cluster.
func TestAnAgentGoesWhereItIsCalledFrom(t *testing.T) {
	roots := make([]*ca.Root, 2)
	for i := range roots {
		var err error
		if roots[i], err = ca.NewRoot(); err != nil {
			t.Fatal(err)
		}
	}
	identity := newIdentity(t, roots[0])
	ours, port := serveAt(t, identity, "127.0.0.1:0")
	stranger, _ := serveAt(t, newIdentity(t, roots[1]), "127.0.0.2:"+port)
	a := agent.New(agent.Config{
		Log: slog.New(slog.DiscardHandler), Managers: []string{"127.0.0.9:" + port}, Runtime: &fakeRuntime{running: map[string]chan struct{}{}},
		Dial:       func(addr string) (*rpc.Client, error) { return rpc.Dial(addr, identity.ClientTLS()) },
		Welcomed:   func(rpc.Welcome) {},
		Describe:   func() shoal.NodeDescription { return shoal.NodeDescription{} },
		ApplyTable: func(context.Context, *shoal.TableDelta) ([]shoal.NetworkID, error) { return nil, nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	}()
	for _, addr := range []string{"127.0.0.1", "127.0.0.3", "127.0.0.4", "127.0.0.2"} {
		a.Called(netip.MustParseAddr(addr))
	}
	s := ours.next(t)
	s.welcome(patient, newTask("t1"))
	s.await("t1", shoal.TaskRunning)
	select {
	case <-stranger.sessions:
		t.Error("it has a session with a manager of another cluster")
	default:
	}
}
