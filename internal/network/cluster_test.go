package network

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/shoal"
)

type node struct {
	*Networks
	ns   *netnstest.NS
	cfg  Config
	addr netip.Addr
	id   string
}

type testCluster struct {
	underlay *netnstest.Underlay
	nodes    []*node
	client   *netnstest.NS
	table    shoal.Table
}

var clientAddr = netip.MustParseAddr("10.77.0.99")

var clientAddr6 = netip.MustParseAddr("fd77::99")

// address6 gives the namespace's interface an IPv6 address too.
func address6(t *testing.T, ns *netnstest.NS, cidr string) {
	t.Helper()
	err := ns.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		return netlink.AddrAdd(link, addr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newCluster(t *testing.T, count int) *testCluster {
	c := &testCluster{underlay: netnstest.NewUnderlay(t), client: netnstest.New(t)}
	c.table = shoal.Table{DataPathPort: 4789, Peers: map[shoal.NodeID]shoal.Peer{}, Services: map[shoal.ServiceID]shoal.ServiceEntry{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{},
		Networks: map[shoal.NetworkID]shoal.Network{
			"ingressid": {ID: "ingressid", VNI: 4096, Spec: shoal.NetworkSpec{Name: "ingress", Ingress: true, Driver: "overlay"}, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}, {Subnet: netip.MustParsePrefix("fd00::/64")}}},
			"netid":     {ID: "netid", VNI: 4097, Spec: shoal.NetworkSpec{Name: "net", Driver: "overlay", EnableIPv6: true}, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.1.0/24")}, {Subnet: netip.MustParsePrefix("fd00:1::/64")}}},
		}}
	for i := range count {
		n := &node{ns: netnstest.New(t), id: fmt.Sprint("n", i), addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)})}
		c.underlay.Plug(t, n.ns, n.addr.String()+"/24")
		address6(t, n.ns, fmt.Sprintf("fd77::%d/64", 11+i))
		dir := t.TempDir()
		resolv := filepath.Join(dir, "resolv.conf")
		if err := os.WriteFile(resolv, []byte("search example.org\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.cfg = Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), DataRoot: dir + "/data", ExecRoot: dir + "/exec", Quarantine: newQuarantine(dir), ResolvConf: resolv, Events: &events.Bus{}}
		n.start(t)
		t.Cleanup(func() { n.clear(t) })
		c.nodes = append(c.nodes, n)
		c.table.Peers[shoal.NodeID(n.id)] = shoal.Peer{NodeID: shoal.NodeID(n.id), DataAddr: n.addr, IngressAddr: netip.AddrFrom4([4]byte{10, 0, 0, byte(241 + i)}),
			IngressAddr6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", 241+i)), HostAddrs6: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("fd77::%d", 11+i))}, ProbeAddr: netip.AddrPortFrom(n.addr, 7946)}
	}
	c.underlay.Plug(t, c.client, clientAddr.String()+"/24")
	address6(t, c.client, clientAddr6.String()+"/64")
	return c
}

func (n *node) start(t *testing.T) {
	t.Helper()
	err := n.ns.Do(func() (err error) {
		n.Networks, err = New(n.cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) clear(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	for id := range n.sandboxes.All() {
		if err := n.Down(ctx, id); err != nil {
			t.Error(err)
		}
	}
	if err := n.Apply(ctx, shoal.Table{}); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(n.cfg.ExecRoot + "/netns"); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func (c *testCluster) push(t *testing.T) {
	t.Helper()
	c.table.Version++
	for _, n := range c.nodes {
		table := c.table
		table.NodeID = shoal.NodeID(n.id)
		if err := n.Apply(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
}

// containerID is made from a task's name. (Namespaces are told apart by its beginning.)
func containerID(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name))) }

// task runs a container of the service on the node and enters it into the table.
func (c *testCluster) task(t *testing.T, service string, on int, slot int) (enter func(func() error) error) {
	t.Helper()
	n := c.nodes[on]
	id := fmt.Sprintf("%stask%d", service, slot)
	last := byte(10 + len(c.table.Endpoints))
	inNet, onMesh := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, last}), 24), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 24)
	inNet6, onMesh6 := netip.MustParsePrefix(fmt.Sprintf("fd00:1::%d/64", last)), netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", last))
	name := fmt.Sprintf("%s.%d.%s", service, slot, id)
	c.table.Endpoints = maps.Clone(c.table.Endpoints)
	for network, addrs := range map[string][2]netip.Prefix{"netid": {inNet, inNet6}, "ingressid": {onMesh, onMesh6}} {
		addr := addrs[0]
		e := shoal.Endpoint{TaskID: shoal.TaskID(id), NetworkID: shoal.NetworkID(network), NodeID: shoal.NodeID(n.id), ServiceID: shoal.ServiceID(service), Name: name, Slot: uint64(slot), Addr: addr, Addr6: addrs[1],
			MAC: shoal.MACFor(addr.Addr()), State: shoal.EndpointReady}
		c.table.Endpoints[e.Key()] = e
	}
	sandbox, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: containerID(name), Name: name, Hostname: "h", Mode: "networks", TaskID: shoal.TaskID(id), ServiceID: shoal.ServiceID(service),
		Endpoints: []shoal.EndpointRequest{{Network: "netid", Addr: inNet.Addr(), Addr6: inNet6.Addr()}}, IngressAddr: onMesh, IngressAddr6: onMesh6})
	if err != nil {
		t.Fatal(err)
	}
	enter = func(f func() error) error { return netnstest.At(sandbox.Netns, f) }
	listen(t, enter, id)
	return enter
}

func listen(t *testing.T, enter func(func() error) error, name string) {
	t.Helper()
	err := enter(func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _, _ = l.Close(), u.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(conn, "%s %s", name, conn.RemoteAddr().(*net.TCPAddr).IP)
				_ = conn.Close()
			}
		}()
		go func() {
			for buf := make([]byte, 2000); ; {
				_, from, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = u.WriteTo([]byte(name+" "+from.(*net.UDPAddr).IP.String()), from)
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sourcePorts gives every connection of the tests a source port that none had before. A port that was used shortly before may lead to its first
// backend again, or take a second turn: a server that still has it in TIME-WAIT may refuse it at first (RFC 6191).
var sourcePorts portSequence

type portSequence struct{ last atomic.Int32 }

func (s *portSequence) dial(proto, addr string) (net.Conn, error) {
	const first = 10_000 // below those that the kernel chooses
	port := first + int(s.last.Add(1))
	dialer := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{Port: port}}
	if strings.HasPrefix(proto, "udp") {
		dialer.LocalAddr = &net.UDPAddr{Port: port}
	}
	return dialer.Dial(proto, addr)
}

// ask returns who answered and whom that one saw.
func ask(enter func(func() error) error, proto, addr string) (who, saw string, err error) {
	err = enter(func() error {
		conn, err := sourcePorts.dial(proto, addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		var answer []byte
		if strings.HasPrefix(proto, "udp") {
			answer = make([]byte, 100)
			if _, err := conn.Write([]byte("?")); err != nil {
				return err
			}
			size, err := conn.Read(answer)
			if err != nil {
				return err
			}
			answer = answer[:size]
		} else if answer, err = io.ReadAll(conn); err != nil {
			return err
		}
		who, saw, _ = strings.Cut(string(answer), " ")
		return nil
	})
	return who, saw, err
}

func (c *testCluster) service(name, vip string, published uint16) {
	c.table.Services[shoal.ServiceID(name)] = shoal.ServiceEntry{ID: shoal.ServiceID(name), Name: name, VIPs: map[shoal.NetworkID]netip.Prefix{"netid": netip.MustParsePrefix(vip + "/24")},
		VIPs6: map[shoal.NetworkID]netip.Prefix{"netid": netip.MustParsePrefix("fd00:1::100:" + vip[strings.LastIndex(vip, ".")+1:] + "/64")},
		Ports: []shoal.MeshPort{
			{Port: shoal.Port{Protocol: shoal.TCP, Target: 80, Published: published}}, {Port: shoal.Port{Protocol: shoal.UDP, Target: 80, Published: published}},
		}}
}

func TestMeshAndVIP(t *testing.T) {
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
		{"client to node 0", c.client.Do, "tcp4", "10.77.0.11:8080", clientAddr.String()},
		{"client to node 1", c.client.Do, "tcp4", "10.77.0.12:8080", clientAddr.String()},
		{"client to node without a task", c.client.Do, "tcp4", "10.77.0.13:8080", clientAddr.String()},
		{"client by UDP to node 0", c.client.Do, "udp4", "10.77.0.11:8080", clientAddr.String()},
		{"client by UDP to node without a task", c.client.Do, "udp4", "10.77.0.13:8080", clientAddr.String()},
		{"localhost", c.nodes[0].ns.Do, "tcp4", "127.0.0.1:8080", ""},
		{"localhost by UDP", c.nodes[0].ns.Do, "udp4", "127.0.0.1:8080", ""},
		{"localhost without a task by UDP", c.nodes[2].ns.Do, "udp4", "127.0.0.1:8080", ""},
		{"own address by UDP", c.nodes[0].ns.Do, "udp4", "10.77.0.11:8080", ""},
		{"localhost without a task", c.nodes[2].ns.Do, "tcp4", "127.0.0.1:8080", ""},
		{"own address", c.nodes[0].ns.Do, "tcp4", "10.77.0.11:8080", ""},
		{"another node", c.nodes[1].ns.Do, "tcp4", "10.77.0.11:8080", ""},
		{"hairpin", web0, "tcp4", "10.77.0.11:8080", ""},
		{"task to another node", other, "tcp4", "10.77.0.11:8080", ""},
		{"VIP", other, "tcp4", "10.0.1.2:80", ""},
		{"VIP by UDP", other, "udp4", "10.0.1.2:80", ""},
		{"VIP of itself", web1, "tcp4", "10.0.1.2:80", ""},
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
		if count["webtask1"] != 10 || count["webtask2"] != 10 {
			t.Errorf("%s: spread %v, want 10 each", probe.name, count)
		}
	}
	for name, want := range map[string]int{"web.": 1, "tasks.web.": 2, "other.1.othertask1.": 1} {
		if err := web0(func() error {
			reply, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), "127.0.0.11:53")
			if err == nil && len(reply.Answer) != want {
				t.Errorf("%s has %v, want %d", name, reply.Answer, want)
			}
			return err
		}); err != nil {
			t.Errorf("resolve %s: %v", name, err)
		}
	}
	c.udpMovesOn(t, other)
	// A restarted daemon takes up what it left, before any manager has spoken to it.
	n := c.nodes[0]
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	for _, addr := range []string{"10.77.0.11:8080", "10.77.0.12:8080"} {
		for range 4 {
			if _, _, err := ask(c.client.Do, "tcp4", addr); err != nil {
				t.Errorf("after restart: %v", err)
			}
		}
	}
}

// udpMovesOn takes one backend out while a client keeps its UDP socket, through a VIP and through the mesh.
func (c *testCluster) udpMovesOn(t *testing.T, inside func(func() error) error) {
	t.Helper()
	for addr, enter := range map[string]func(func() error) error{"10.0.1.2:80": inside, "10.77.0.13:8080": c.client.Do} {
		var conn net.Conn
		if err := enter(func() (err error) { conn, err = net.Dial("udp4", addr); return err }); err != nil {
			t.Fatal(err)
		}
		ask := func() string {
			buf := make([]byte, 100)
			_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
			if _, err := conn.Write([]byte("?")); err != nil {
				t.Error(err)
			}
			size, err := conn.Read(buf)
			if err != nil {
				t.Errorf("%s: %v", addr, err)
			}
			who, _, _ := strings.Cut(string(buf[:size]), " ")
			return who
		}
		first := ask()
		if again := ask(); again != first {
			t.Errorf("%s: a flow went to %s, then to %s", addr, first, again)
		}
		setState := func(s shoal.EndpointState) {
			c.table.Endpoints = maps.Clone(c.table.Endpoints) // tables are values: a pushed one is not changed
			for k, e := range c.table.Endpoints {
				if e.TaskID == shoal.TaskID(first) {
					e.State = s
					c.table.Endpoints[k] = e
				}
			}
			c.push(t)
		}
		setState(shoal.EndpointDraining)
		if now := ask(); now == first {
			t.Errorf("%s: still at %s", addr, now)
		}
		setState(shoal.EndpointReady)
		_ = conn.Close()
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestNetworkThatComesBackIsMadeAnew(t *testing.T) {
	c := newCluster(t, 1)
	all := c.table.Networks
	for range 2 {
		c.table.Networks = all
		c.push(t)
		id := strings.Repeat("d", 64)
		_, err := c.nodes[0].Up(t.Context(), shoal.SandboxSpec{ContainerID: id, Mode: "networks", TaskID: "t", Endpoints: []shoal.EndpointRequest{{Network: "netid", Addr: netip.MustParseAddr("10.0.1.9")}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.nodes[0].Down(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		c.table.Networks = map[shoal.NetworkID]shoal.Network{"ingressid": all["ingressid"]}
		c.push(t)
	}
}

func newQuarantine(dir string) *quarantine.Quarantine {
	return quarantine.Open(filepath.Join(dir, "quarantine"), discard(), &events.Bus{})
}
