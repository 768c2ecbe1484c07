package rpc_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// handler answers what the tests ask.
type handler struct{ rpc.Handler }

func (handler) RootCA(context.Context, *rpc.RootCARequest) (*rpc.RootCAReply, error) {
	return &rpc.RootCAReply{Cert: []byte("root")}, nil
}

func (handler) Renew(ctx context.Context, _ *rpc.RenewRequest) (*rpc.CertificateReply, error) {
	caller := rpc.CallerOf(ctx)
	return &rpc.CertificateReply{NodeID: caller.NodeID, Role: caller.Role, Addr: caller.Addr}, nil
}

func (handler) Leave(context.Context, *rpc.LeaveRequest) (*rpc.LeaveReply, error) {
	return nil, shoal.PermissionDenied("not %s", "now")
}

func (handler) Detach(context.Context, *rpc.DetachRequest) (*rpc.DetachReply, error) {
	var none []*rpc.DetachReply
	return none[len(none)], nil
}

func (handler) Session(rpc.SessionServer) error { panic("no hello") }

func (handler) ReadLogs(req *rpc.LogRequest, stream rpc.LineServer) error {
	for range req.Query.Tail {
		if err := stream.Send(&shoal.LogLine{TaskID: req.Query.TaskIDs[0], Data: []byte("line\n")}); err != nil {
			return err
		}
	}
	return shoal.NotFound("no more")
}

// serve runs the handler and gives its address, and the root and identity that it is served under.
func serve(t *testing.T) (addr string, root *ca.Root, identity *ca.Identity) {
	t.Helper()
	return serveAs(t, handler{})
}

func serveHandler(t *testing.T, h rpc.Handler) (addr string, identity *ca.Identity) {
	t.Helper()
	addr, _, identity = serveAs(t, h)
	return addr, identity
}

func serveAs(t *testing.T, h rpc.Handler) (addr string, root *ca.Root, identity *ca.Identity) {
	t.Helper()
	root, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, "node", "cluster", shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if identity, err = ca.SaveIdentity(t.TempDir(), root.CertPEM, cert, key); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(identity, h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served //nolint:errcheck // stopped
	})
	return listener.Addr().String(), root, identity
}

func TestWhoMayCallWhat(t *testing.T) {
	addr, root, identity := serve(t)
	stranger, err := rpc.Dial(addr, ca.JoinTLS(root))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	if reply, err := stranger.RootCA(t.Context()); err != nil || string(reply.Cert) != "root" {
		t.Errorf("a stranger asks for the root: %v", err)
	}
	if _, err := stranger.Renew(t.Context(), &rpc.RenewRequest{}); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("a stranger renews: %v", err)
	}
	if err := stranger.ReadLogs(t.Context(), shoal.LogQuery{}, nil); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("a stranger reads logs: %v", err)
	}
	node, err := rpc.Dial(addr, identity.ClientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close() }()
	reply, err := node.Renew(t.Context(), &rpc.RenewRequest{})
	if err != nil || reply.NodeID != "node" || reply.Role != shoal.RoleManager || reply.Addr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("a node is known as %+v, %v", reply, err)
	}
	if err := node.Leave(t.Context()); err == nil || err.Error() != "rpc error: code = PermissionDenied desc = not now" {
		t.Errorf("a refusal arrives as %v", err)
	}
}

func TestLinesArriveInOrderAndThenTheError(t *testing.T) {
	addr, _, identity := serve(t)
	node, err := rpc.Dial(addr, identity.ClientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close() }()
	lines := 0
	query := shoal.LogQuery{TaskIDs: []shoal.TaskID{"t"}, Tail: 3}
	err = node.ReadLogs(t.Context(), query, func(l shoal.LogLine) error {
		if l.TaskID != "t" || string(l.Data) != "line\n" {
			t.Errorf("line %+v", l)
		}
		lines++
		return nil
	})
	if lines != 3 || !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("%d lines, then %v", lines, err)
	}
	enough := errors.New("enough")
	if err := node.ReadLogs(t.Context(), query, func(shoal.LogLine) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("a reader that has enough gets %v", err)
	}
}

// A fault that a node's message brought out ended the manager's process.
func TestAFaultEndsItsCallOnly(t *testing.T) {
	addr, _, identity := serve(t)
	node, err := rpc.Dial(addr, identity.ClientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close() }()
	if err := node.Detach(t.Context(), &rpc.DetachRequest{}); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("a call ends with %v", err)
	}
	session, err := node.Session(t.Context())
	if err == nil {
		_, err = session.Recv()
	}
	if err == nil || !strings.Contains(err.Error(), "no hello") {
		t.Errorf("a session ends with %v", err)
	}
	if _, err := node.Renew(t.Context(), &rpc.RenewRequest{}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}
