package network

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestMeshAndVIPByIPv6(t *testing.T) {
	c := newCluster(t, 3)
	c.service("web", "10.0.1.2", 8080)
	c.service("other", "10.0.1.3", 8081)
	c.push(t)
	web0, web1 := c.task(t, "web", 0, 1), c.task(t, "web", 1, 2)
	other := c.task(t, "other", 2, 1)
	c.push(t)
	for _, probe := range []struct {
		name  string
		enter func(func() error) error
		proto string
		addr  string
		saw   string // "" for any
	}{
		{"task", other, "tcp6", "[fd00:1::10]:80", ""},
		{"VIP", other, "tcp6", "[fd00:1::100:2]:80", ""},
		{"VIP by UDP", other, "udp6", "[fd00:1::100:2]:80", ""},
		{"VIP of itself", web1, "tcp6", "[fd00:1::100:2]:80", ""},
		{"client to node 0", c.client.Do, "tcp6", "[fd77::11]:8080", clientAddr6.String()},
		{"client to node 1", c.client.Do, "tcp6", "[fd77::12]:8080", clientAddr6.String()},
		{"client to node without a task", c.client.Do, "tcp6", "[fd77::13]:8080", clientAddr6.String()},
		{"client by UDP to node 0", c.client.Do, "udp6", "[fd77::11]:8080", clientAddr6.String()},
		{"client by UDP to node without a task", c.client.Do, "udp6", "[fd77::13]:8080", clientAddr6.String()},
		{"own address", c.nodes[0].ns.Do, "tcp6", "[fd77::11]:8080", ""},
		{"own address of a node without a task", c.nodes[2].ns.Do, "tcp6", "[fd77::13]:8080", ""},
		{"hairpin", web0, "tcp6", "[fd77::11]:8080", ""},
		{"task to another node", other, "tcp6", "[fd77::11]:8080", ""},
		{"another node", c.nodes[1].ns.Do, "tcp6", "[fd77::11]:8080", ""},
	} {
		count := map[string]int{}
		for range 20 {
			who, saw, err := ask(probe.enter, probe.proto, probe.addr)
			if err != nil {
				t.Errorf("%s: %v", probe.name, err)
				break
			}
			if probe.saw != "" && saw != probe.saw {
				t.Errorf("%s: task saw %s, want %s", probe.name, saw, probe.saw)
			}
			count[who]++
		}
		if probe.name != "task" && (count["webtask1"] != 10 || count["webtask2"] != 10) {
			t.Errorf("%s: spread %v, want 10 each", probe.name, count)
		}
	}
	began := time.Now()
	if _, _, err := ask(c.nodes[0].ns.Do, "tcp6", "[::1]:8080"); !errors.Is(err, unix.ECONNREFUSED) || time.Since(began) > time.Second {
		t.Errorf("[::1]: %v after %v, want a refusal", err, time.Since(began))
	}
	err := web0(func() error {
		reply, err := dns.Exchange(new(dns.Msg).SetQuestion("tasks.web.", dns.TypeAAAA), "127.0.0.11:53")
		if err == nil && len(reply.Answer) != 2 {
			t.Errorf("tasks.web has %v", reply.Answer)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLocalNetworkWithIPv6(t *testing.T) {
	c := newCluster(t, 1)
	n, ctx := c.nodes[0], t.Context()
	net6, err := n.Create(ctx, shoal.NetworkSpec{Name: "net6", EnableIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(net6.IPAM) != 2 || !netip.MustParsePrefix("fd00::/8").Contains(net6.IPAM[1].Subnet.Addr()) {
		t.Fatalf("the network has %+v", net6.IPAM)
	}
	if _, err := n.Create(ctx, shoal.NetworkSpec{Name: "again", EnableIPv6: true, IPAM: []shoal.Subnet{{Subnet: net6.IPAM[1].Subnet}}}); err == nil {
		t.Error("an IPv6 subnet was given twice")
	}
	up := func(id string, addr6 netip.Addr, ports ...shoal.PortBinding) (shoal.EndpointInfo, func(func() error) error) {
		t.Helper()
		sandbox, err := n.Up(ctx, shoal.SandboxSpec{ContainerID: strings.Repeat(id, 64), Name: id, Mode: "networks", Ports: ports, Endpoints: []shoal.EndpointRequest{{Network: "net6", Addr6: addr6}}})
		if err != nil {
			t.Fatal(err)
		}
		return sandbox.Endpoints[0], func(f func() error) error { return netnstest.At(sandbox.Netns, f) }
	}
	asked := net6.IPAM[1].Subnet.Addr().Next().Next().Next()
	a, inA := up("a", asked, shoal.PortBinding{Protocol: shoal.TCP, Target: 80, HostPort: 8080}, shoal.PortBinding{Protocol: shoal.TCP, Target: 80, HostPort: 8081, HostIP: netip.IPv6Unspecified()},
		shoal.PortBinding{Protocol: shoal.TCP, Target: 80, HostPort: 8082, HostIP: netip.IPv4Unspecified()})
	_, inB := up("b", netip.Addr{})
	listen(t, inA, "a")
	listen(t, c.client.Do, "client")
	if a.Addr6.Addr() != asked || a.Gateway6 != net6.IPAM[1].Gateway {
		t.Errorf("the container has %+v", a)
	}
	for _, probe := range []struct {
		enter       func(func() error) error
		proto, addr string
		who, saw    string
	}{
		{inB, "tcp6", "[" + asked.String() + "]:80", "a", ""},
		{inB, "udp6", "[" + asked.String() + "]:80", "a", ""},
		{c.client.Do, "tcp6", "[fd77::11]:8080", "a", clientAddr6.String()},
		{c.client.Do, "tcp4", "10.77.0.11:8080", "a", clientAddr.String()},
		{n.ns.Do, "tcp6", "[fd77::11]:8080", "a", ""},
		{inA, "tcp6", "[fd77::11]:8080", "a", ""},
		{c.client.Do, "tcp6", "[fd77::11]:8081", "a", clientAddr6.String()},
		{c.client.Do, "tcp4", "10.77.0.11:8081", "", ""},
		{c.client.Do, "tcp6", "[fd77::11]:8082", "", ""},
		{inB, "tcp6", "[fd77::99]:80", "client", "fd77::11"},
	} {
		who, saw, err := ask(probe.enter, probe.proto, probe.addr)
		if probe.who == "" && errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil || who != probe.who || probe.saw != "" && saw != probe.saw {
			t.Errorf("%s to %s: %s, who saw %s (%v); want %s, %s", probe.proto, probe.addr, who, saw, err, probe.who, probe.saw)
		}
	}
	err = inB(func() error {
		reply, err := dns.Exchange(new(dns.Msg).SetQuestion("a.", dns.TypeAAAA), "127.0.0.11:53")
		if err == nil && len(reply.Answer) != 1 {
			t.Errorf("a has %v", reply.Answer)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, id := range []string{"a", "b"} {
		if err := n.Down(ctx, strings.Repeat(id, 64)); err != nil {
			t.Error(err)
		}
	}
	if err := n.Remove(ctx, "net6"); err != nil {
		t.Error(err)
	}
}

func TestVIPAnswersPingByIPv6(t *testing.T) {
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	c.task(t, "web", 0, 1)
	inside := c.task(t, "web", 1, 2)
	c.push(t)
	for i := range 4 {
		err := inside(func() error {
			conn, err := net.Dial("ip6:ipv6-icmp", "fd00:1::100:2")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			const request, reply = 128, 129
			if _, err := conn.Write([]byte{request, 0, 0, 0, 0, byte(40 + i), 0, 1}); err != nil { // the kernel fills in the sum
				return err
			}
			for buf := make([]byte, 100); ; {
				size, err := conn.Read(buf)
				if err != nil || size >= 8 && buf[0] == reply && buf[5] == byte(40+i) {
					return err
				}
			}
		})
		if err != nil {
			t.Errorf("ping %d: %v", i, err)
		}
	}
}
