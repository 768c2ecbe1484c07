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
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestSocketsAreBalanced(t *testing.T) {
	ns := netnstest.New(t)
	cgroup := netnstest.JoinCgroup(t)
	p := newPlane(t, ns)
	if err := p.BalanceSockets(cgroup); err != nil {
		t.Skipf("the kernel cannot balance sockets: %v", err)
	}
	vip := netip.MustParseAddr("172.30.0.100")
	task := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, 0, byte(2 + i)}) }
	apply := func(backends ...netip.Addr) {
		t.Helper()
		c := &Config{Bridges: map[string]*Bridge{"docker0": {Name: "docker0", Gateway: netip.MustParsePrefix("172.30.0.1/16")}}, Sandboxes: map[string]*Sandbox{}}
		for i := range 3 {
			c.Sandboxes[fmt.Sprint("s", i)] = &Sandbox{Seed: uint32(i), Services: oneService(vip, backends),
				Endpoints: []Endpoint{{Name: "eth0", Bridge: "docker0", Addr: netip.PrefixFrom(task(i), 16), MAC: shoal.MACFor(task(i)), Gateway: netip.MustParseAddr("172.30.0.1")}}}
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
	if services, backends, err := p.balancer.Len(); err != nil || services+backends > 0 {
		t.Errorf("of services without backends, %d services and %d backends are left (%v)", services, backends, err)
	}
}

// askByIPv6 opens an IPv6 socket to the address, which may be a mapped one, and returns the answer and whom the socket takes for its peer.
func askByIPv6(at func(func() error) error, to netip.AddrPort) (answer string, peer netip.Addr, err error) {
	err = at(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}),
			unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}))
		if err != nil {
			return err
		}
		name, err := unix.Getpeername(fd)
		if err != nil {
			return err
		}
		if in6, ok := name.(*unix.SockaddrInet6); ok {
			peer = netip.AddrFrom16(in6.Addr)
		}
		buf := make([]byte, 100)
		size, err := unix.Read(fd, buf)
		answer = string(buf[:max(size, 0)])
		return err
	})
	return answer, peer, err
}

func TestIPv6SocketsAreBalanced(t *testing.T) {
	ns := netnstest.New(t)
	cgroup := netnstest.JoinCgroup(t)
	p := newPlane(t, ns)
	if err := p.BalanceSockets(cgroup); err != nil {
		t.Skipf("the kernel cannot balance sockets: %v", err)
	}
	c := &Config{Sandboxes: map[string]*Sandbox{}, Bridges: map[string]*Bridge{
		"docker0": {Name: "docker0", Gateway: netip.MustParsePrefix("172.30.0.1/16"), Gateway6: netip.MustParsePrefix("fd30::1/64")}}}
	vip, vip6 := &VIP{Addr: netip.MustParseAddr("172.30.0.100")}, &VIP{Addr: netip.MustParseAddr("fd30::100")}
	for i := range 3 {
		name, a, a6 := fmt.Sprint("s", i), netip.AddrFrom4([4]byte{172, 30, 0, byte(2 + i)}), netip.MustParseAddr(fmt.Sprintf("fd30::%d", 2+i))
		vip.Backends, vip6.Backends = append(vip.Backends, a), append(vip6.Backends, a6)
		if _, err := p.Namespace(name); err != nil {
			t.Fatal(err)
		}
		c.Sandboxes[name] = &Sandbox{Seed: uint32(i), Endpoints: []Endpoint{{Name: "eth0", Bridge: "docker0", MAC: shoal.MACFor(a), Addr: netip.PrefixFrom(a, 16), Addr6: netip.PrefixFrom(a6, 64),
			Gateway: netip.MustParseAddr("172.30.0.1"), Gateway6: netip.MustParseAddr("fd30::1")}}}
	}
	for _, s := range c.Sandboxes {
		s.Services = map[string]Services{"net": Services{}.Set(vip.Addr, vip).Set(vip6.Addr, vip6)}
	}
	if err := p.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		for _, at := range []string{"172.30.0.", "fd30::"} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(at+fmt.Sprint(2+i)), 80)
			serveOn(t, inside(p, fmt.Sprint("s", i)), "tcp", addr.String(), fmt.Sprint("s", i))
		}
	}
	err := inside(p, "s0")(func() error { // without the rules it is the sockets alone that know the addresses
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
	for _, to := range []netip.Addr{vip6.Addr, netip.AddrFrom16(vip.Addr.As16())} {
		count := map[string]int{}
		for range 9 {
			answer, peer, err := askByIPv6(inside(p, "s0"), netip.AddrPortFrom(to, 80))
			if err != nil {
				t.Fatalf("connect to %s: %v", to, err)
			}
			if peer != to {
				t.Errorf("a socket connected to %s has peer %s", to, peer)
			}
			who, _, _ := strings.Cut(answer, " ")
			count[who]++
		}
		if count["s0"] != 3 || count["s1"] != 3 || count["s2"] != 3 {
			t.Errorf("%s: spread %v, want 3 each", to, count)
		}
	}
}
