package rpc

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Frame is a message of a tunnel: a piece of a connection to a node's API that travels over the node protocol. The first frame says what the
// tunnel is: from an agent it has the ID that ManagerMessage.Open named, from a manager the node that the leader should connect it to.
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
	// FrameClient is the end of a tunnel that has called a manager.
	FrameClient = grpc.BidiStreamingClient[Frame, Frame]
)

// frames is what FrameServer and FrameClient have in common.
type frames interface {
	Send(*Frame) error
	Recv() (*Frame, error)
}

// Tunnel is one end of a connection to a node's API. One goroutine may read while others write.
type Tunnel struct {
	frames frames
	end    func() // ends the stream; may be called again

	rest []byte // received, but not yet read

	mu sync.Mutex // guards sending on frames
}

// NewTunnel makes a tunnel of a stream whose first frame has been sent or received. Close calls end, which must end the stream and may be called
// more than once.
func NewTunnel(f frames, end func()) *Tunnel { return &Tunnel{frames: f, end: end} }

// Read implements io.Reader. It returns io.EOF once the other end has called CloseWrite and all it sent has been read.
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

// Write implements io.Writer; p travels as one frame.
func (t *Tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.frames.Send(&Frame{Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite tells the other end that nothing more will be written. Reading goes on.
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

// Relay copies between a client and the tunnel until the server at its other end has nothing more to send, and closes both.
func (t *Tunnel) Relay(client io.ReadWriteCloser) error { return Relay(client, t) }

// Relay copies between a client and a server until the server has nothing more to send, and closes both. When the client has nothing more to
// send, the server is told, but its answer is waited for. A client at the other end of a tunnel has read all of it when Relay returns without an error: what
// is under way in a tunnel that is closed is lost.
func Relay(client, server io.ReadWriteCloser) error {
	defer func() {
		_ = client.Close() // everything has been sent
		_ = server.Close()
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		err := fault.Contain(nil, "tunnel to a node", func() error {
			_, err := io.Copy(server, client)
			return err
		})
		if err != nil {
			_ = server.Close() // the client is gone
			return
		}
		closeWrite(server)
	}()
	_, err := io.Copy(client, server)
	closeWrite(client)
	if tunnel, ok := client.(*Tunnel); ok && err == nil {
		_ = server.Close() // it has nothing more to send; what the client still sends is in vain
		<-read
		tunnel.awaitEnd()
	}
	return err
}

// awaitEnd waits until the other end has closed the tunnel, which it does when it has read what it wanted.
func (t *Tunnel) awaitEnd() {
	for {
		if _, err := t.frames.Recv(); err != nil {
			return
		}
	}
}

// closeWrite tells the other end that nothing more will be written, if the connection can do so. An error means that the other end is gone.
func closeWrite(c io.ReadWriteCloser) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Tunnel opens the tunnel that a manager has asked for by ManagerMessage.Open. The caller connects it to the node's API.
func (c *Client) Tunnel(ctx context.Context, id string) (*Tunnel, error) {
	return c.tunnel(ctx, "Tunnel", &Frame{Tunnel: id})
}

// Reach asks the leader for a connection to a node's API. A node without a session is refused with Unavailable.
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
