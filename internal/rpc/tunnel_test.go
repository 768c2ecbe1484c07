package rpc_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
)

// tunnelHandler gives the manager's ends of tunnels to the test, which closes them.
type tunnelHandler struct {
	rpc.Handler
	tunnels chan *rpc.Tunnel
}

func (h tunnelHandler) Tunnel(stream rpc.FrameServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	done := make(chan struct{})
	h.tunnels <- rpc.NewTunnel(stream, sync.OnceFunc(func() { close(done) }))
	select {
	case <-done:
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// The end of an answer that a manager was slow to read was once lost, because the node closed the tunnel as soon as it had handed the answer to the
// transport: `docker exec` on another node's task said "unexpected EOF".
func TestATunnelIsClosedOnlyWhenItsAnswerHasBeenRead(t *testing.T) {
	h := tunnelHandler{tunnels: make(chan *rpc.Tunnel, 1)}
	addr, identity := serveHandler(t, h)
	client, err := rpc.Dial(addr, identity.ClientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, clientHalfCloses := range []bool{false, true} {
		tunnel, err := client.Tunnel(ctx, "id")
		if err != nil {
			t.Fatal(err)
		}
		answer := bytes.Repeat([]byte("answer"), 20_000)
		near, far := net.Pipe()
		relayed := make(chan error, 1)
		go func() { relayed <- rpc.Relay(tunnel, near) }()
		go func() {
			_, _ = far.Write(answer)
			_ = far.Close()
		}()
		manager := <-h.tunnels
		if clientHalfCloses {
			if err := manager.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		select { // a manager that takes its time
		case err := <-relayed:
			t.Errorf("the tunnel was closed before the answer was read: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		got, err := io.ReadAll(manager)
		if err != nil || !bytes.Equal(got, answer) {
			t.Errorf("%d bytes of %d arrived, %v", len(got), len(answer), err)
		}
		_ = manager.Close()
		select {
		case err := <-relayed:
			if err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Fatal("the tunnel is never closed")
		}
	}
}
