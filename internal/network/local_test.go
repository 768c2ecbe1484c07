package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestLocalNetworks(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	ctx := t.Context()
	for _, l := range n.List() {
		if l.Spec.Name == "bridge" && l.IPAM[0].Subnet != netip.MustParsePrefix("172.17.0.0/16") {
			t.Errorf("bridge has %s", l.IPAM[0].Subnet)
		}
	}
	br1, err := n.Create(ctx, shoal.NetworkSpec{Name: "br1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec shoal.NetworkSpec
		want string
	}{
		{shoal.NetworkSpec{Name: "br1"}, "network with name br1 already exists"},
		{shoal.NetworkSpec{Name: "x", Driver: "nosuchdriver"}, `plugin "nosuchdriver" not found`},
		{shoal.NetworkSpec{Name: "x", IPAM: []shoal.Subnet{{Subnet: br1.IPAM[0].Subnet}}}, "invalid pool request: Pool overlaps with other one on this address space"},
	} {
		if _, err := n.Create(ctx, c.spec); err == nil || err.Error() != c.want {
			t.Errorf("create %+v: %v, want %s", c.spec, err, c.want)
		}
	}
	up := func(id, name string, ports ...shoal.PortBinding) (shoal.Sandbox, error) {
		return n.Up(ctx, shoal.SandboxSpec{ContainerID: id, Name: name, Mode: "networks", Ports: ports, Endpoints: []shoal.EndpointRequest{{Network: "br1", Aliases: []string{"al"}}}})
	}
	port := shoal.PortBinding{Protocol: shoal.TCP, Target: 80, HostPort: 8080}
	a, err := up(strings.Repeat("a", 64), "ca", port)
	if err != nil {
		t.Fatal(err)
	}
	listen(t, func(f func() error) error { return netnstest.At(a.Netns, f) }, "a")
	if who, _, err := ask(n.ns.Do, "tcp4", "127.0.0.1:8080"); who != "a" {
		t.Errorf("published port: %q, %v", who, err)
	}
	if _, err := up(strings.Repeat("b", 64), "cb", port); err == nil || !strings.HasSuffix(err.Error(), "Bind for 0.0.0.0:8080 failed: port is already allocated") {
		t.Errorf("second binding: %v", err)
	}
	b, err := up(strings.Repeat("b", 64), "cb")
	if err != nil {
		t.Fatal(err)
	}
	inB := func(f func() error) error { return netnstest.At(b.Netns, f) }
	for _, name := range []string{"ca", "al", strings.Repeat("a", 12)} {
		err := inB(func() error {
			r := net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
				var conn net.Conn
				err := inB(func() (err error) { conn, err = net.Dial(network, "127.0.0.11:53"); return err })
				return conn, err
			}}
			addrs, err := r.LookupHost(ctx, name+".")
			if err == nil && len(addrs) == 0 {
				err = fmt.Errorf("no address")
			}
			return err
		})
		if err != nil {
			t.Errorf("resolve %s: %v", name, err)
		}
	}
	if err := n.Remove(ctx, "br1"); err == nil || !strings.Contains(err.Error(), "has active endpoints") {
		t.Errorf("remove a network in use: %v", err)
	}
	_, err = n.Connect(ctx, strings.Repeat("b", 64), shoal.EndpointRequest{Network: "bridge", MAC: shoal.DecodeMAC("02:42:ac:1e:00:02:00:01")})
	if err == nil || err.Error() != "read hardware address 02:42:ac:1e:00:02:00:01: it has 8 bytes, not 6" {
		t.Errorf("connect with a MAC that is none: %v", err)
	}
	e, err := n.Connect(ctx, strings.Repeat("b", 64), shoal.EndpointRequest{Network: "bridge"})
	if err != nil || e.Interface != "eth1" {
		t.Errorf("connect: %+v, %v", e, err)
	}
	if err := n.Disconnect(ctx, strings.Repeat("b", 64), "bridge", false); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"a", "b"} {
		if err := n.Down(ctx, strings.Repeat(id, 64)); err != nil {
			t.Error(err)
		}
	}
	if err := n.Remove(ctx, "br1"); err != nil {
		t.Error(err)
	}
	if _, err := n.Up(ctx, shoal.SandboxSpec{ContainerID: strings.Repeat("c", 64), Mode: "networks", Endpoints: []shoal.EndpointRequest{{Network: "nosuch"}}}); !errdefs.IsNotFound(err) {
		t.Errorf("unknown network: %v", err)
	}
}

func TestSilentPeerIsSkippedUntilItAnswers(t *testing.T) {
	c := newCluster(t, 3)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	c.task(t, "web", 0, 1)
	c.task(t, "web", 1, 2)
	c.push(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for _, n := range c.nodes {
		if err := n.StartProbes(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- n.Run(ctx) }()
	}
	defer func() {
		cancel()
		for range c.nodes {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	eventually := func(what string, limit time.Duration, good func() bool) {
		t.Helper()
		deadline := time.NewTimer(limit)
		defer deadline.Stop()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		start := time.Now()
		for !good() {
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatalf("%s: not within %v", what, limit)
			}
		}
		t.Logf("%s after %v", what, time.Since(start).Round(time.Millisecond))
	}
	suspects := func() int {
		n := c.nodes[2].Networks
		n.applyMu.Lock() // what is in force is asked for, not what is known
		defer n.applyMu.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.appliedGeneration != n.generation {
			return -1
		}
		return len(n.directory.Suspects())
	}
	c.underlay.Cut(t, 2, true)
	eventually("suspected", 5*time.Second, func() bool { return suspects() == 1 })
	for range 10 {
		if who, _, err := ask(c.client.Do, "tcp4", "10.77.0.13:8080"); who != "webtask1" {
			t.Errorf("got %q, %v", who, err)
		}
	}
	c.underlay.Cut(t, 2, false)
	eventually("trusted again", 5*time.Second, func() bool { return suspects() == 0 })
}

func BenchmarkUp(b *testing.B) {
	for _, parallel := range []int{1, 10} {
		b.Run(fmt.Sprint("parallel=", parallel), func(b *testing.B) {
			ns := netnstest.New(b)
			dir := b.TempDir()
			var n *Networks
			err := ns.Do(func() (err error) {
				n, err = New(Config{Log: discard(), DataRoot: dir + "/data", ExecRoot: dir + "/exec", Quarantine: newQuarantine(dir), ResolvConf: dir + "/none"})
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			jobs, done := make(chan int), make(chan error)
			for range parallel {
				go func() {
					for i := range jobs {
						_, err := n.Up(b.Context(), shoal.SandboxSpec{ContainerID: fmt.Sprintf("%012d", i), Name: fmt.Sprint("c", i)})
						done <- err
					}
				}()
			}
			go func() {
				for i := range b.N {
					jobs <- i
				}
				close(jobs)
			}()
			for range b.N {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			for id := range n.sandboxes.All() {
				if err := n.Down(context.Background(), id); err != nil {
					b.Error(err)
				}
			}
			_ = n.Close()
		})
	}
}
