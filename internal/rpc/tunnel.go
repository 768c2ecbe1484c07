package rpc

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Frame is a piece of a connection to a node's API that is carried over the node protocol. The first frame of a stream names the
// connection: an agent sets Tunnel to the name in ManagerMessage.Open, a manager that asks the leader sets Node.
type Frame struct {
	Tunnel string       `json:",omitempty"`
	Node   shoal.NodeID `json:",omitempty"`
	Data   []byte       `json:",omitempty"`
	// End says that this end will send nothing more.
	End bool `json:",omitempty"`
}

type (
	// FrameServer is a manager's end of a tunnel.
	FrameServer = grpc.BidiStreamingServer[Frame, Frame]
	// FrameClient is the end that has called a manager.
	FrameClient = grpc.BidiStreamingClient[Frame, Frame]
)

// frames is what FrameServer and FrameClient have in common.
type frames interface {
	Send(*Frame) error
	Recv() (*Frame, error)
}

// Tunnel is one end of such a connection. Its reader and its writer may be two goroutines.
type Tunnel struct {
	frames frames
	end    func() // ends the stream; may be called more than once

	rest []byte // read, not yet handed out

	mu sync.Mutex // guards sending on frames
}

// NewTunnel makes a tunnel of a stream whose first frame has been sent or received. end must end the stream; it may be called more
// than once.
func NewTunnel(f frames, end func()) *Tunnel { return &Tunnel{frames: f, end: end} }

// Read implements io.Reader; io.EOF means that the other end has called CloseWrite.
func (t *Tunnel) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		f, err := t.frames.Recv()
		if err != nil {
			return 0, err
		}
		if f.End {
			return 0, io.EOF
		}
		t.rest = f.Data
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write implements io.Writer: it sends p as one frame.
func (t *Tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.frames.Send(&Frame{Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite tells the other end that nothing more will be written; reading goes on.
func (t *Tunnel) CloseWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frames.Send(&Frame{End: true})
}

// Close ends the tunnel in both directions.
func (t *Tunnel) Close() error {
	t.end()
	return nil
}

// Relay copies between a client and the server at the far end of the tunnel: see the function Relay.
func (t *Tunnel) Relay(client io.ReadWriteCloser) error { return Relay(client, t) }

// Relay copies between a client and a server until the server closes its direction, then closes both. When the client closes its
// direction first, that is passed on to the server.
func Relay(client, server io.ReadWriteCloser) error {
	defer func() {
		_ = client.Close() // everything has been copied
		_ = server.Close()
	}()
	go func() {
		if _, err := io.Copy(server, client); err != nil {
			_ = server.Close() // the client is gone
			return
		}
		closeWrite(server)
	}()
	_, err := io.Copy(client, server)
	closeWrite(client)
	return err
}

// closeWrite closes one direction of a connection that can do so. An error means that the other end has gone already.
func closeWrite(c io.ReadWriteCloser) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Tunnel opens the connection that a manager has asked for.
func (c *Client) Tunnel(ctx context.Context, id string) (*Tunnel, error) {
	return c.tunnel(ctx, "Tunnel", &Frame{Tunnel: id})
}

// Reach asks the leader for a connection to a node's API.
func (c *Client) Reach(ctx context.Context, node shoal.NodeID) (*Tunnel, error) {
	t, err := c.tunnel(ctx, "Reach", &Frame{Node: node})
	if err != nil {
		return nil, err
	}
	// The leader's first frame says that the node has been reached.
	if _, err := t.frames.Recv(); err != nil {
		t.end()
		return nil, fromWire(err)
	}
	return t, nil
}

func (c *Client) tunnel(ctx context.Context, method string, first *Frame) (*Tunnel, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true}, "/"+serviceName+"/"+method)
	if err != nil {
		cancel()
		return nil, fromWire(err)
	}
	stream := &grpc.GenericClientStream[Frame, Frame]{ClientStream: s}
	if err := stream.Send(first); err != nil {
		cancel()
		return nil, fromWire(err)
	}
	return NewTunnel(stream, cancel), nil
}
