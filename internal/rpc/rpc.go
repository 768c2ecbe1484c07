// Package rpc is the protocol between nodes: its messages, and their transport by gRPC over mutual TLS on port 2377. Messages are
// JSON, so that a task has the same form in the store and on the wire (adr/001). It reads and writes nothing but connections.
package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// DefaultPort is the TCP port at which managers serve the node protocol.
const DefaultPort = 2377

const serviceName = "shoal.Node"

// jsonCodec carries messages as JSON.
type jsonCodec struct{}

func (jsonCodec) Name() string                       { return "shoal+json" }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Caller is the other end of a call, as its certificate names it. NodeID and Role are empty for a caller without a certificate: a
// node that has yet to join.
type Caller struct {
	NodeID shoal.NodeID
	Role   shoal.NodeRole
	// Addr is the IP address it calls from; not valid on connections that are not of IP.
	Addr netip.Addr
}

// CallerOf reads the caller from a handler's context; it is empty in any other context.
func CallerOf(ctx context.Context) Caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Caller{}
	}
	caller := Caller{Addr: hostOf(p.Addr)}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return caller
	}
	cert := info.State.VerifiedChains[0][0]
	caller.NodeID, caller.Role = shoal.NodeID(cert.Subject.CommonName), ca.RoleOf(cert)
	return caller
}

// toWire turns an error into a gRPC status; refusals keep their code and text.
func toWire(err error) error {
	if refusal, ok := errors.AsType[*shoal.Refusal](err); ok {
		for code := codes.OK; code <= codes.Unauthenticated; code++ {
			if code.String() == refusal.Code() {
				return status.Error(code, refusal.Desc())
			}
		}
	}
	return err
}

// fromWire turns a gRPC status back into a refusal.
func fromWire(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded {
		return err
	}
	return shoal.RefusalWithCode(s.Code().String(), s.Message())
}

// Handler answers the node protocol on a manager.
type Handler interface {
	// RootCA hands out the root certificate; anyone may ask.
	RootCA(context.Context, *RootCARequest) (*RootCAReply, error)
	// Join admits a node that shows a join token.
	Join(context.Context, *JoinRequest) (*CertificateReply, error)
	// Renew gives a node of the cluster a new certificate, in the role that it now has.
	Renew(context.Context, *RenewRequest) (*CertificateReply, error)
	// JoinMember makes a manager a member of the store.
	JoinMember(context.Context, *MemberRequest) (*MemberReply, error)
	// Leave says that the calling node leaves the cluster.
	Leave(context.Context, *LeaveRequest) (*LeaveReply, error)
	// Attach gives a container that belongs to no service an address on an attachable network.
	Attach(context.Context, *AttachRequest) (*AttachReply, error)
	// Detach takes the address back.
	Detach(context.Context, *DetachRequest) (*DetachReply, error)
	// Session serves an agent for as long as it is connected: reports in, assignments and tables out.
	Session(SessionServer) error
	// PublishLogs carries the lines that a manager asked an agent for.
	PublishLogs(LogServer) error
	// ReadLogs gives another manager the log lines of tasks; only the leader, which has the agents' sessions, can ask for them.
	ReadLogs(*LogRequest, LineServer) error
	// Tunnel carries a connection to a node's API that a manager asked its agent for.
	Tunnel(FrameServer) error
	// ReachFor gives another manager a connection to a node's API; only the leader, which has the agents' sessions, can open one.
	ReachFor(FrameServer) error
}

type (
	// SessionServer is the manager's end of a session.
	SessionServer = grpc.BidiStreamingServer[AgentMessage, ManagerMessage]
	// SessionClient is the agent's end of a session.
	SessionClient = grpc.BidiStreamingClient[AgentMessage, ManagerMessage]
	// LogServer is the manager's end of a log stream.
	LogServer = grpc.ClientStreamingServer[LogMessage, LogReply]
	// LineServer is the leader's end of the lines that another manager reads.
	LineServer = grpc.ServerStreamingServer[shoal.LogLine]
	// LogClient is the agent's end of a log stream.
	LogClient = grpc.ClientStreamingClient[LogMessage, LogReply]
)

// unary describes a call of the protocol; joined is set for those that only nodes of the cluster may make.
func unary[Req, Reply any](name string, joined bool, call func(Handler, context.Context, *Req) (*Reply, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		req := new(Req)
		if err := dec(req); err != nil {
			return nil, err
		}
		if err := admit(ctx, joined); err != nil {
			return nil, err
		}
		handler, ok := srv.(Handler)
		if !ok {
			return nil, fmt.Errorf("serve %s: handler is a %T", name, srv)
		}
		reply, err := call(handler, ctx, req)
		if err != nil {
			return nil, toWire(err)
		}
		return reply, nil
	}}
}

// stream describes a call in which the client sends many messages and, if serverSends is set, the server too.
func stream[Out, In any](name string, serverSends bool, call func(Handler, *grpc.GenericServerStream[Out, In]) error) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, ServerStreams: serverSends, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
		if err := admit(s.Context(), true); err != nil {
			return err
		}
		handler, ok := srv.(Handler)
		if !ok {
			return fmt.Errorf("serve %s: handler is a %T", name, srv)
		}
		return toWire(call(handler, &grpc.GenericServerStream[Out, In]{ServerStream: s}))
	}}
}

// serverStream describes a call in which one request is answered with many messages.
func serverStream[Req, Out any](name string, call func(Handler, *Req, *grpc.GenericServerStream[Req, Out]) error) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
		if err := admit(s.Context(), true); err != nil {
			return err
		}
		handler, ok := srv.(Handler)
		if !ok {
			return fmt.Errorf("serve %s: handler is a %T", name, srv)
		}
		req := new(Req)
		if err := s.RecvMsg(req); err != nil {
			return err
		}
		return toWire(call(handler, req, &grpc.GenericServerStream[Req, Out]{ServerStream: s}))
	}}
}

// admit refuses callers without a certificate of the cluster if joined is set.
func admit(ctx context.Context, joined bool) error {
	if joined && CallerOf(ctx).NodeID == "" {
		return status.Error(codes.PermissionDenied, "a certificate of this cluster is needed")
	}
	return nil
}

// NewServer serves h with the TLS configuration of the node's identity.
func NewServer(id *ca.Identity, h Handler) *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(id.ServerTLS())),
		grpc.ForceServerCodec(jsonCodec{}),
		grpc.MaxRecvMsgSize(maxMessage),
	)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*Handler)(nil),
		Methods: []grpc.MethodDesc{
			unary("RootCA", false, Handler.RootCA),
			unary("Join", false, Handler.Join),
			unary("Renew", true, Handler.Renew),
			unary("JoinMember", true, Handler.JoinMember),
			unary("Leave", true, Handler.Leave),
			unary("Attach", true, Handler.Attach),
			unary("Detach", true, Handler.Detach),
		},
		Streams: []grpc.StreamDesc{
			stream("Session", true, func(h Handler, s *grpc.GenericServerStream[AgentMessage, ManagerMessage]) error { return h.Session(s) }),
			stream("PublishLogs", false, func(h Handler, s *grpc.GenericServerStream[LogMessage, LogReply]) error { return h.PublishLogs(s) }),
			serverStream("ReadLogs", func(h Handler, req *LogRequest, s *grpc.GenericServerStream[LogRequest, shoal.LogLine]) error {
				return h.ReadLogs(req, s)
			}),
			stream("Tunnel", true, func(h Handler, s *grpc.GenericServerStream[Frame, Frame]) error { return h.Tunnel(s) }),
			stream("Reach", true, func(h Handler, s *grpc.GenericServerStream[Frame, Frame]) error { return h.ReachFor(s) }),
		},
	}, h)
	return s
}

// maxMessage bounds a message, in bytes; a full assignment of a node with thousands of endpoints is a few MiB.
const maxMessage = 64 << 20
