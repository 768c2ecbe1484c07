package swarm

import (
	"net"
	"testing"
)

func TestGone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if gone(t.Context(), addr) {
		t.Error("who listens is gone")
	}
	go func() { // it ends while it is asked
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	if !gone(t.Context(), addr) {
		t.Error("who ends a connection is there")
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if !gone(t.Context(), addr) {
		t.Error("who does not listen is there")
	}
	if gone(t.Context(), "nowhere") {
		t.Error("an address that cannot be tried is one of a process that has ended")
	}
}
