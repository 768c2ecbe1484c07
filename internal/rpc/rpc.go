// Package rpc is the protocol between nodes: its messages, and gRPC over mutual TLS on port 2377, which carries them. Messages are JSON, as
// stored objects are, so that tasks and the like need only one encoding. It reads and writes nothing but connections.
package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// DefaultPort is the TCP port where managers serve the node protocol.
const DefaultPort = 2377

const serviceName = "shoal.Node"

// jsonCodec makes gRPC encode messages as JSON.
type jsonCodec struct{}

func (jsonCodec) Name() string                       { return "shoal+json" }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Caller is the node that has made a call, as its certificate names it.
type Caller struct {
	NodeID shoal.NodeID   // empty for a node without a certificate, because it has yet to join
	Role   shoal.NodeRole // likewise
	// Addr is the IP address that the call came from; not valid for a connection in memory or on a Unix socket.
	Addr netip.Addr
}

// CallerOf reads the caller from the context that a handler was called with. In any other context it is the zero Caller.
func CallerOf(ctx context.Context) Caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Caller{}
	}
	caller := Caller{Addr: ipOf(p.Addr)}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return caller
	}
	cert := info.State.VerifiedChains[0][0]
	caller.NodeID, caller.Role = shoal.NodeID(cert.Subject.CommonName), ca.RoleOf(cert)
	return caller
}

// toWire turns a handler's error into a gRPC status. A *shoal.Refusal keeps its code and text; other errors become codes.Unknown.
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

// fromWire turns a gRPC status back into a *shoal.Refusal. Errors of the caller's own context stay what they are.
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

// Handler answers the calls of the node protocol on a manager. CallerOf tells which node has called.
type Handler interface {
	// RootCA returns the root certificate. Anyone may call it, without a certificate.
	RootCA(context.Context, *RootCARequest) (*RootCAReply, error)
	// Join admits a node that has a join token. It may be called without a certificate.
	Join(context.Context, *JoinRequest) (*CertificateReply, error)
	// Renew returns a new certificate for the calling node, in the role that it should have now.
	Renew(context.Context, *RenewRequest) (*CertificateReply, error)
	// RenewExpired is Renew for a node whose certificate has expired. It may be called without a certificate.
	RenewExpired(context.Context, *RenewExpiredRequest) (*CertificateReply, error)
	// JoinMember adds the calling manager to the members of the store.
	JoinMember(context.Context, *MemberRequest) (*MemberReply, error)
	// Leave records that the calling node has left the cluster by itself.
	Leave(context.Context, *LeaveRequest) (*LeaveReply, error)
	// Attach allocates an address on an attachable network for a container that is no task.
	Attach(context.Context, *AttachRequest) (*AttachReply, error)
	// Detach releases what Attach has allocated.
	Detach(context.Context, *DetachRequest) (*DetachReply, error)
	// Session is the stream that an agent keeps open for as long as it runs.
	Session(SessionServer) error
	// PublishLogs receives the log lines that this manager has asked an agent for.
	PublishLogs(LogServer) error
	// ReadLogs sends another manager the logs of tasks. Only the leader can collect them, because all agents' sessions are with it.
	ReadLogs(*LogRequest, LineServer) error
	// Tunnel receives a connection to the API of the calling node, which this manager has asked its agent for.
	Tunnel(FrameServer) error
	// ReachFor connects another manager to the API of a node. Only the leader can ask agents for such a connection.
	ReachFor(FrameServer) error
}

type (
	// SessionServer is the manager's end of a session.
	SessionServer = grpc.BidiStreamingServer[AgentMessage, ManagerMessage]
	// SessionClient is the agent's end of a session.
	SessionClient = grpc.BidiStreamingClient[AgentMessage, ManagerMessage]
	// LogServer is the manager's end of a log stream.
	LogServer = grpc.ClientStreamingServer[LogMessage, LogReply]
	// LineServer is the leader's end of the stream on which another manager reads log lines.
	LineServer = grpc.ServerStreamingServer[shoal.LogLine]
	// LogClient is the agent's end of a log stream.
	LogClient = grpc.ClientStreamingClient[LogMessage, LogReply]
)

// unary describes a call with one request and one reply. If joined is set, only nodes of the cluster may make it.
func unary[Req, Reply any](name string, joined bool, call func(Handler, context.Context, *Req) (*Reply, error)) grpc.MethodDesc {
	answer := func(srv any, ctx context.Context, dec func(any) error) (any, error) {
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
	}
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (reply any, err error) {
		err = fault.Contain(nil, "call of "+name, func() (err error) {
			reply, err = answer(srv, ctx, dec)
			return err
		})
		return reply, err
	}}
}

// stream describes a call in which the client sends any number of messages, and so does the server if serverSends is set.
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

// serverStream describes a call whose one request the server answers with any number of messages.
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

// admit refuses a caller without a certificate of this cluster, if joined demands one. TLS has refused other certificates already.
func admit(ctx context.Context, joined bool) error {
	if joined && CallerOf(ctx).NodeID == "" {
		return status.Error(codes.PermissionDenied, "a certificate of this cluster is needed")
	}
	return nil
}

// NewServer returns a server that answers calls by h once it is given a listener.
func NewServer(id *ca.Identity, h Handler) *grpc.Server {
	s := grpc.NewServer(
		grpc.ChainStreamInterceptor(containStream),
		grpc.Creds(credentials.NewTLS(id.ServerTLS())),
		grpc.ForceServerCodec(jsonCodec{}),
		grpc.MaxRecvMsgSize(maxMessage),
		// Clients that are gone without a word, and clients whose pings the default policy would punish with too_many_pings.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*Handler)(nil),
		Methods: []grpc.MethodDesc{
			unary("RootCA", false, Handler.RootCA),
			unary("Join", false, Handler.Join),
			unary("Renew", true, Handler.Renew),
			unary("RenewExpired", false, Handler.RenewExpired),
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

// containStream makes a fault of ours that a stream brings out an error of that stream. Calls of one message do it by themselves: see unary.
func containStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return fault.Contain(nil, "call of "+info.FullMethod, func() error { return handle(srv, stream) })
}

// A connection on which nothing was received for keepaliveTime is probed, and closed if there is no answer within keepaliveTimeout: by both ends.
const keepaliveTime, keepaliveTimeout = 10 * time.Second, 5 * time.Second

// maxMessage is the size limit of a message, in bytes. The first table of a node with thousands of endpoints has a few MiB.
const maxMessage = 64 << 20
