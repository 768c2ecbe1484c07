package dataplane

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func newPlane(t *testing.T, ns *netnstest.NS) *Plane {
	t.Helper()
	return newPlaneWith(t, ns, WireGuardProcess{})
}

func newPlaneWith(t *testing.T, ns *netnstest.NS, process WireGuardProcess) *Plane {
	t.Helper()
	var p *Plane
	err := ns.Do(func() (err error) {
		p, err = New(Settings{Log: slog.New(slog.DiscardHandler), Dir: t.TempDir(), WireGuard: process})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.retainedMu.Lock()
		p.retained = map[string]bool{}
		p.retainedMu.Unlock()
		if err := p.Apply(t.Context(), &Config{}); err != nil {
			t.Error(err)
		}
		if left, _ := p.dir.Names(); len(left) > 0 {
			t.Errorf("namespaces left: %v", left)
		}
		_ = p.Close()
	})
	return p
}

// serve answers every connection to the address with name, until the test ends.
func serve(t *testing.T, at func(func() error) error, addr, name string) {
	t.Helper()
	serveOn(t, at, "tcp4", addr, name)
}

func serveOn(t *testing.T, at func(func() error) error, network, addr, name string) {
	t.Helper()
	err := at(func() error {
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
				_ = c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lastSourcePort is the source port of the latest connection of ask.
var lastSourcePort atomic.Int32

// ask connects from a source port that no connection had before. A port that the server still has in TIME-WAIT may be refused (RFC 6191); the client then
// sends a second SYN, which takes a second turn.
func ask(at func(func() error) error, addr string) (string, error) {
	var answer string
	err := at(func() error {
		const firstSourcePort = 10_000 // below those that the kernel chooses
		dialer := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{Port: firstSourcePort + int(lastSourcePort.Add(1))}}
		c, err := dialer.Dial("tcp4", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	})
	return answer, err
}

func inside(p *Plane, name string) func(func() error) error {
	return func(f func() error) error { return netnstest.At(p.dir.Path(name), f) }
}

func oneService(vip netip.Addr, backends []netip.Addr) map[string]Services {
	return map[string]Services{"net": Services{}.Set(vip, &VIP{Addr: vip, Backends: backends})}
}

func TestBridgeVIPAndPorts(t *testing.T) {
	ns := netnstest.New(t)
	p := newPlane(t, ns)
	vip := netip.MustParseAddr("172.30.0.100")
	config := func(backends ...netip.Addr) *Config {
		c := &Config{Bridges: map[string]*Bridge{"docker0": {Name: "docker0", Gateway: netip.MustParsePrefix("172.30.0.1/16"), Masquerade: true}}, Sandboxes: map[string]*Sandbox{}}
		for i := range 3 {
			a := netip.AddrFrom4([4]byte{172, 30, 0, byte(2 + i)})
			c.Sandboxes[fmt.Sprint("s", i)] = &Sandbox{Seed: uint32(i), Services: oneService(vip, backends),
				Endpoints: []Endpoint{{Name: "eth0", Bridge: "docker0", Addr: netip.PrefixFrom(a, 16), MAC: shoal.MACFor(a), Gateway: netip.MustParseAddr("172.30.0.1")}}}
		}
		c.Ports = []Port{{Protocol: shoal.TCP, Port: 8080, Backends: []Backend{{Addr: netip.MustParseAddr("172.30.0.3"), Port: 80}, {Addr: netip.MustParseAddr("172.30.0.4"), Port: 80}}},
			{Protocol: shoal.TCP, Port: 8081}}
		return c
	}
	for i := range 3 {
		if _, err := p.Namespace(fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
	}
	b1, b2 := netip.MustParseAddr("172.30.0.3"), netip.MustParseAddr("172.30.0.4")
	if err := p.Apply(t.Context(), config(b1, b2)); err != nil {
		t.Fatal(err)
	}
	serve(t, inside(p, "s1"), ":80", "s1")
	serve(t, inside(p, "s2"), ":80", "s2")
	for _, from := range []struct {
		name string
		at   func(func() error) error
		addr string
	}{
		{"vip", inside(p, "s0"), "172.30.0.100:80"},
		{"vip hairpin", inside(p, "s1"), "172.30.0.100:80"},
		{"localhost", ns.Do, "127.0.0.1:8080"},
		{"gateway", ns.Do, "172.30.0.1:8080"},
		{"port hairpin", inside(p, "s1"), "172.30.0.1:8080"},
	} {
		count := map[string]int{}
		var answers []string
		for range 20 {
			answer, err := ask(from.at, from.addr)
			if err != nil {
				t.Fatalf("%s: %v", from.name, err)
			}
			count[answer[:2]]++
			answers = append(answers, answer)
		}
		if count["s1"] != 10 || count["s2"] != 10 {
			t.Errorf("%s: spread %v, want 10 each: %q", from.name, count, answers)
		}
	}
	for _, again := range []string{"same", "forgotten"} {
		if again == "forgotten" {
			p.Forget()
		}
		if err := p.Apply(t.Context(), config(b1)); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		for range 4 {
			if answer, err := ask(inside(p, "s0"), "172.30.0.100:80"); err != nil || answer[:2] != "s1" {
				t.Errorf("%s: got %q, %v, want s1", again, answer, err)
			}
		}
	}
	if err := p.Apply(t.Context(), config()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := ask(inside(p, "s0"), "172.30.0.100:80"); err == nil {
		t.Error("a service without backends answered")
	}
	if _, err := ask(ns.Do, "127.0.0.1:8081"); err == nil {
		t.Error("a port without backends answered")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("refusal took %v", took)
	}
}
