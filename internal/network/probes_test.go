package network

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// A daemon outside a swarm had port 7946 open, and ended at its start if another program had it.
func TestProbesListenOnlyInASwarm(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	take := func() (conn net.PacketConn, err error) {
		err = n.ns.Do(func() (err error) {
			conn, err = net.ListenPacket("udp4", ":7946")
			return err
		})
		return conn, err
	}
	conn, err := take()
	if err != nil {
		t.Fatalf("outside a swarm: %v", err)
	}
	if err := n.StartProbes(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("the port is taken: %v", err)
	}
	if len(n.cfg.Quarantine.Problems()) != 1 {
		t.Errorf("problems while the port is taken: %q", n.cfg.Quarantine.Problems())
	}
	_ = conn.Close()
	limit := time.NewTimer(10 * time.Second) // it is tried every two seconds
	defer limit.Stop()
	for len(n.cfg.Quarantine.Problems()) > 0 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-limit.C:
			t.Fatalf("the port is free, but not had: %q", n.cfg.Quarantine.Problems())
		}
	}
	if _, err := take(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("in a swarm: %v", err)
	}
	for range 3 { // one place after another
		n.StopProbes()
		if err := n.StartProbes(); err != nil {
			t.Fatal(err)
		}
	}
	n.StopProbes()
	if conn, err = take(); err != nil {
		t.Fatalf("after leaving: %v", err)
	}
	_ = conn.Close()
}
