package dataplane

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// A connection that is still being closed when its container has ended keeps the kernel's side of the namespace alive, for minutes if the peer is silent: its
// interface went on answering for an address that another container had by then, and refused its connections.
func TestAnEndedSandboxDoesNotAnswerForItsAddress(t *testing.T) {
	t.Run("given again at once", func(t *testing.T) { testEndedSandbox(t, true) })
	t.Run("free", func(t *testing.T) { testEndedSandbox(t, false) })
}

func testEndedSandbox(t *testing.T, again bool) {
	t.Helper()
	ns := netnstest.New(t)
	p := newPlane(t, ns)
	addr, gateway := netip.MustParsePrefix("172.30.0.2/16"), netip.MustParsePrefix("172.30.0.1/16")
	config := func(names ...string) *Config {
		c := &Config{Bridges: map[string]*Bridge{"docker0": {Name: "docker0", Gateway: gateway}}, Sandboxes: map[string]*Sandbox{}}
		for _, name := range names {
			c.Sandboxes[name] = &Sandbox{Endpoints: []Endpoint{{Name: "eth0", Bridge: "docker0", Addr: addr, MAC: shoal.MACFor(addr.Addr()), Gateway: gateway.Addr()}}}
		}
		return c
	}
	apply := func(name string) {
		t.Helper()
		if _, err := p.Namespace(name); err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(t.Context(), config(name)); err != nil {
			t.Fatal(err)
		}
	}
	apply("first")
	var listener net.Listener // accepts nothing: the kernel does
	err := ns.Do(func() (err error) {
		listener, err = net.Listen("tcp4", gateway.Addr().String()+":7000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var conn net.Conn
	err = inside(p, "first")(func() (err error) {
		conn, err = net.Dial("tcp4", gateway.Addr().String()+":7000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The node does not hear of the connection's end.
	err = ns.Do(func() error {
		return exec.Command("nft", "add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }; add rule ip deaf in tcp dport 7000 drop").Run()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	p.Release("first")
	if err := p.Apply(t.Context(), config()); err != nil {
		t.Fatal(err)
	}
	left := func() int {
		n := 0
		err := ns.Do(func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				if strings.HasPrefix(l.Attrs().Name, "veth") {
					n++
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if p.Drift(false); left() != 1 {
		t.Error("connections are not closed in good order")
	}
	if again {
		apply("second")
	} else {
		for end := time.Now().Add(5 * time.Second); left() > 0; p.Drift(false) { // as the node's repair does
			if time.Now().After(end) {
				t.Fatal("the interface is still there")
			}
			<-time.After(50 * time.Millisecond)
		}
		apply("second")
	}
	serve(t, inside(p, "second"), ":80", "second")
	for range 10 {
		if answer, err := ask(ns.Do, "172.30.0.2:80"); err != nil || answer[:6] != "second" {
			t.Errorf("%q answers, %v", answer, err)
		}
		// Who has the address is asked anew each time.
		_ = ns.Do(func() error { return exec.Command("ip", "neigh", "flush", "dev", "docker0").Run() })
	}
}
