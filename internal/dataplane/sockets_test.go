package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

func TestSocketsAreBalanced(t *testing.T) {
	ns := netnstest.New(t)
	cgroup := netnstest.JoinCgroup(t)
	p := newPlane(t, ns)
	if err := p.Balance(cgroup); err != nil {
		t.Skipf("the kernel cannot balance sockets: %v", err)
	}
	vip := netip.MustParseAddr("172.30.0.100")
	task := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, 0, byte(2 + i)}) }
	apply := func(backends ...netip.Addr) {
		t.Helper()
		c := &Config{Bridges: map[string]*Bridge{"docker0": {Name: "docker0", Gateway: netip.MustParsePrefix("172.30.0.1/16")}}, Sandboxes: map[string]*Sandbox{}}
		for i := range 3 {
			c.Sandboxes[fmt.Sprint("s", i)] = &Sandbox{Seed: uint32(i), Services: oneService(vip, backends),
				Endpoints: []Endpoint{{Name: "eth0", Bridge: "docker0", Addr: netip.PrefixFrom(task(i), 16), MAC: MAC(task(i)), Gateway: netip.MustParseAddr("172.30.0.1")}}}
		}
		if err := p.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if _, err := p.Namespace(fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
	}
	apply(task(0), task(1), task(2))
	for i := range 3 {
		serve(t, inside(p, fmt.Sprint("s", i)), ":80", fmt.Sprint("s", i))
	}
	spread := func(requests int) map[string]int {
		t.Helper()
		count := map[string]int{}
		for range requests {
			answer, err := ask(inside(p, "s0"), "172.30.0.100:80")
			if err != nil {
				t.Fatal(err)
			}
			who, _, _ := strings.Cut(answer, " ")
			count[who]++
		}
		return count
	}
	// Without the rules it is the sockets alone that know the address.
	err := inside(p, "s0")(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.FlushRuleset()
		return conn.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := spread(30); got["s0"] != 10 || got["s1"] != 10 || got["s2"] != 10 {
		t.Errorf("spread %v, want 10 each", got)
	}
	err = inside(p, "s0")(func() error {
		conn, err := net.DialTimeout("tcp4", "172.30.0.100:80", time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if got := conn.RemoteAddr().String(); got != "172.30.0.100:80" {
			t.Errorf("the socket's peer is %s", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	p.Drift(false) // finds the flushed rules, and the next Apply restores them
	apply(task(1))
	if got := spread(5); got["s1"] != 5 {
		t.Errorf("spread %v, want s1 only", got)
	}
	apply(task(1), task(2))
	if got := spread(10); got["s1"] != 5 || got["s2"] != 5 {
		t.Errorf("spread %v, want 5 each", got)
	}
	apply()
	began := time.Now()
	if _, err := ask(inside(p, "s0"), "172.30.0.100:80"); !errors.Is(err, unix.ECONNREFUSED) || time.Since(began) > time.Second {
		t.Errorf("without backends: %v after %v", err, time.Since(began))
	}
	var key serviceKey
	var value serviceValue
	if entries := p.sockets.services.Iterate(); entries.Next(&key, &value) {
		t.Errorf("a service without backends is left: %v", key)
	}
	var backend backendKey
	var addr [4]byte
	if entries := p.sockets.backends.Iterate(); entries.Next(&backend, &addr) {
		t.Errorf("a backend is left: %v", backend)
	}
}
