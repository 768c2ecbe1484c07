package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Client calls the node protocol of one manager. Errors of its calls that a manager has refused are a *shoal.Refusal.
type Client struct{ conn *grpc.ClientConn }

// Dialer makes clients. Its zero value connects by TCP.
type Dialer struct {
	// Connect, optional, opens the connection to "host:port" over which TLS then runs.
	Connect func(ctx context.Context, addr string) (net.Conn, error)
}

// Dial returns a client of the manager at "host:port". It connects at the first call, and again after the connection was lost.
func Dial(addr string, config *tls.Config) (*Client, error) { return Dialer{}.Dial(addr, config) }

// Dial returns a client of the manager at "host:port". It connects at the first call, and again after the connection was lost.
func (d Dialer) Dial(addr string, config *tls.Config) (*Client, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(jsonCodec{}), grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}
	if d.Connect != nil {
		options = append(options, grpc.WithContextDialer(d.Connect))
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, options...)
	if err != nil {
		return nil, fmt.Errorf("dial manager %s: %w", addr, err)
	}
	return &Client{conn}, nil
}

// Close ends the connection and all calls on it.
func (c *Client) Close() error { return c.conn.Close() }

// call makes a call with one request and one reply.
func call[Reply any](ctx context.Context, c *Client, method string, req any) (*Reply, error) {
	reply := new(Reply)
	if err := c.conn.Invoke(ctx, "/"+serviceName+"/"+method, req, reply); err != nil {
		return nil, fromWire(err)
	}
	return reply, nil
}

// RootCA fetches the cluster's root certificate. It works before the node trusts anybody: the caller checks the digest of what it gets.
func (c *Client) RootCA(ctx context.Context) (*RootCAReply, error) {
	return call[RootCAReply](ctx, c, "RootCA", &RootCARequest{})
}

// Join asks for a certificate with a join token. A wrong token is refused with InvalidArgument.
func (c *Client) Join(ctx context.Context, req *JoinRequest) (*CertificateReply, error) {
	return call[CertificateReply](ctx, c, "Join", req)
}

// Renew asks for a new certificate, in the role that the node now has; the client must have shown the node's present one.
func (c *Client) Renew(ctx context.Context, req *RenewRequest) (*CertificateReply, error) {
	return call[CertificateReply](ctx, c, "Renew", req)
}

// RenewExpired asks for a new certificate for a node whose present one is not valid any more; the client shows none.
func (c *Client) RenewExpired(ctx context.Context, req *RenewExpiredRequest) (*CertificateReply, error) {
	return call[CertificateReply](ctx, c, "RenewExpired", req)
}

// JoinMember asks the manager to add this manager to the members of the store; the reply has what the member must be started with.
func (c *Client) JoinMember(ctx context.Context, req *MemberRequest) (*MemberReply, error) {
	return call[MemberReply](ctx, c, "JoinMember", req)
}

// Leave tells the managers that this node has left the cluster.
func (c *Client) Leave(ctx context.Context) error {
	_, err := call[LeaveReply](ctx, c, "Leave", &LeaveRequest{})
	return err
}

// Attach asks for an address on an attachable network for a container that is no task, and waits until it is allocated.
func (c *Client) Attach(ctx context.Context, req *AttachRequest) (*AttachReply, error) {
	return call[AttachReply](ctx, c, "Attach", req)
}

// Detach gives back what Attach got.
func (c *Client) Detach(ctx context.Context, req *DetachRequest) error {
	_, err := call[DetachReply](ctx, c, "Detach", req)
	return err
}

// Session opens an agent's session: a stream in both directions that lasts as long as the agent has this manager.
func (c *Client) Session(ctx context.Context) (SessionClient, error) {
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "Session", ServerStreams: true, ClientStreams: true}, "/"+serviceName+"/Session")
	if err != nil {
		return nil, fromWire(err)
	}
	return &grpc.GenericClientStream[AgentMessage, ManagerMessage]{ClientStream: s}, nil
}

// PublishLogs opens a stream on which an agent sends the log lines that a manager asked for on its session.
func (c *Client) PublishLogs(ctx context.Context) (LogClient, error) {
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "PublishLogs", ClientStreams: true}, "/"+serviceName+"/PublishLogs")
	if err != nil {
		return nil, fromWire(err)
	}
	return &grpc.GenericClientStream[LogMessage, LogReply]{ClientStream: s}, nil
}

// ReadLogs asks the leader for the logs of tasks on any node, and calls each for every line until there are no more. An error of each ends it.
func (c *Client) ReadLogs(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "ReadLogs", ServerStreams: true}, "/"+serviceName+"/ReadLogs")
	if err != nil {
		return fromWire(err)
	}
	stream := &grpc.GenericClientStream[LogRequest, shoal.LogLine]{ClientStream: s}
	if err := stream.SendMsg(&LogRequest{Query: query}); err != nil {
		return fromWire(err)
	}
	if err := stream.CloseSend(); err != nil {
		return fromWire(err)
	}
	for {
		line, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromWire(err)
		}
		if err := each(*line); err != nil {
			return err
		}
	}
}

// ipOf is the IP address of one end of a connection; not valid if the connection has none.
func ipOf(addr net.Addr) netip.Addr {
	addrPort, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{} // a connection in memory or on a Unix socket
	}
	return addrPort.Addr()
}

// WithPort adds the default port to an address without one.
func WithPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(addr, strconv.Itoa(DefaultPort))
}
