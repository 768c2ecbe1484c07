package network

import (
	"errors"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// TestConnectionsToADeadNodeAreReset cuts a node off. When its task is taken from the table, those who wait for its answer learn it, and so
// do those who send, on an overlay and through the mesh.
func TestConnectionsToADeadNodeAreReset(t *testing.T) {
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	web := c.task(t, "web", 1, 1)
	caller := c.task(t, "caller", 0, 1)
	c.push(t)
	err := web(func() error { // a server that says nothing
		l, err := net.Listen("tcp", ":81")
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := c.table.Services["web"]
	s.Ports = slices.Clone(s.Ports)
	s.Ports[0].Target = 81
	c.table.Services = map[shoal.ServiceID]shoal.ServiceEntry{"web": s}
	c.push(t)
	c.run(t)
	conns := map[string]net.Conn{}
	for name, dial := range map[string]struct {
		enter func(func() error) error
		addr  string
	}{"VIP": {caller, "10.0.1.2:81"}, "VIP by IPv6": {caller, "[fd00:1::100:2]:81"}, "task": {caller, "10.0.1.10:81"}, "mesh": {c.client.Do, "10.77.0.11:8080"}} {
		err := dial.enter(func() (err error) { conns[name], err = net.DialTimeout("tcp", dial.addr, 2*time.Second); return err })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer func() { _ = conns[name].Close() }()
	}
	c.underlay.Cut(t, 2, true) // that of n1
	n := c.nodes[0]
	for deadline := time.Now().Add(10 * time.Second); ; {
		n.mu.Lock()
		suspected := n.directory.Suspects()["n1"]
		n.mu.Unlock()
		if suspected {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the node is not suspected")
		}
		<-time.After(10 * time.Millisecond)
	}
	c.table.Endpoints = maps.Clone(c.table.Endpoints)
	maps.DeleteFunc(c.table.Endpoints, func(_ shoal.EndpointKey, e shoal.Endpoint) bool { return e.NodeID == "n1" })
	c.push(t)
	for name, conn := range conns {
		if name == "mesh" { // its socket is not on this node: it learns when it sends
			if _, err := conn.Write([]byte("?")); err != nil {
				t.Error(err)
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Error(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.ECONNABORTED) {
			t.Errorf("%s: %v, want a reset", name, err)
		}
	}
	c.underlay.Cut(t, 2, false)
}
