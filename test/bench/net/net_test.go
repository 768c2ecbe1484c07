package net

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// bench is two nodes and a client on a wire.
type bench struct {
	*testing.B
	underlay *netnstest.Underlay
	client   *netnstest.NS
	spaces   []*netnstest.NS
	nodes    []*network.Networks
	cgroup   string // of the first node, in which this process is
	table    shoal.Table
}

const ingressID, overlayID = "ingressid", "overlayid"

func newBench(b *testing.B) *bench {
	s := &bench{B: b, underlay: netnstest.NewUnderlay(b), client: netnstest.New(b)}
	s.table = shoal.Table{DataPathPort: 4789, Peers: map[shoal.NodeID]shoal.Peer{}, Services: map[shoal.ServiceID]shoal.ServiceEntry{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{},
		Networks: map[shoal.NetworkID]shoal.Network{
			ingressID: {ID: ingressID, VNI: 4096, Spec: shoal.NetworkSpec{Name: "ingress", Ingress: true, Driver: "overlay"}, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}},
			overlayID: {ID: overlayID, VNI: 4097, Spec: shoal.NetworkSpec{Name: "net", Driver: "overlay"}, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.1.0/24")}}},
		}}
	s.cgroup = netnstest.JoinCgroup(b)
	for i := range 2 {
		addr := netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)})
		ns := netnstest.New(b)
		s.underlay.Plug(b, ns, addr.String()+"/24")
		s.spaces = append(s.spaces, ns)
		id := fmt.Sprint("n", i)
		s.table.Peers[shoal.NodeID(id)] = shoal.Peer{NodeID: shoal.NodeID(id), DataAddr: addr, IngressAddr: netip.AddrFrom4([4]byte{10, 0, 0, byte(241 + i)}), ProbeAddr: netip.AddrPortFrom(addr, 7946)}
		s.start(ns)
	}
	s.underlay.Plug(b, s.client, "10.77.0.99/24")
	return s
}

func (s *bench) start(ns *netnstest.NS) {
	dir, cgroup := s.TempDir(), ""
	if len(s.nodes) == 0 {
		cgroup = s.cgroup
	}
	err := ns.Do(func() error {
		n, err := network.New(network.Config{Log: slog.New(slog.DiscardHandler), DataRoot: dir + "/data", ExecRoot: dir + "/exec", Quarantine: quarantine.Open(dir+"/quarantine", slog.New(slog.DiscardHandler), &events.Bus{}), ResolvConf: dir + "/none", Cgroup: cgroup, Program: os.Args[0]})
		s.nodes = append(s.nodes, n)
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	n := s.nodes[len(s.nodes)-1]
	s.Cleanup(func() {
		if err := n.Apply(context.WithoutCancel(s.Context()), shoal.Table{}); err != nil {
			s.Error(err)
		}
		if err := n.Close(); err != nil {
			s.Error(err)
		}
	})
}

func (s *bench) push() {
	s.Helper()
	s.table.Version++
	for i, n := range s.nodes {
		table := s.table
		table.NodeID = shoal.NodeID(fmt.Sprint("n", i))
		if err := n.Apply(s.Context(), table); err != nil {
			s.Fatal(err)
		}
	}
}

// task runs a task with a server, of a service of its own. Its addresses on the overlay and on the mesh end in last.
func (s *bench) task(service string, node int, last byte, published uint16) func(func() error) error {
	s.Helper()
	inNet, onMesh := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, last}), 24), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 24)
	s.table.Services[shoal.ServiceID(service)] = shoal.ServiceEntry{ID: shoal.ServiceID(service), Name: service,
		VIPs: map[shoal.NetworkID]netip.Prefix{overlayID: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, 100 + last}), 24)},
		Ports: []shoal.MeshPort{
			{Port: shoal.Port{Protocol: shoal.TCP, Target: 80, Published: published}},
			{Port: shoal.Port{Protocol: shoal.TCP, Target: sinkPort, Published: published + sinkOffset}},
			{Port: shoal.Port{Protocol: shoal.UDP, Target: sinkPort, Published: published + sinkOffset}},
		}}
	for network, addr := range map[shoal.NetworkID]netip.Prefix{overlayID: inNet, ingressID: onMesh} {
		e := shoal.Endpoint{TaskID: shoal.TaskID(service), NetworkID: network, NodeID: shoal.NodeID(fmt.Sprint("n", node)), ServiceID: shoal.ServiceID(service), Name: service, Addr: addr,
			MAC: shoal.MACFor(addr.Addr()), State: shoal.EndpointReady}
		s.table.Endpoints[e.Key()] = e
	}
	id := fmt.Sprintf("%02x%062x", last, 0) // namespaces are told apart by its beginning
	sandbox, err := s.nodes[node].Up(s.Context(), shoal.SandboxSpec{ContainerID: id, Name: service, Hostname: "h", Mode: "networks", TaskID: shoal.TaskID(service), ServiceID: shoal.ServiceID(service),
		Endpoints: []shoal.EndpointRequest{{Network: overlayID, Addr: inNet.Addr()}}, IngressAddr: onMesh})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := s.nodes[node].Down(context.WithoutCancel(s.Context()), id); err != nil {
			s.Error(err)
		}
	})
	enter := func(f func() error) error { return netnstest.At(sandbox.Netns, f) }
	serve(s.B, enter, 80)
	return enter
}

// gateway is the task's address on its node's gateway bridge.
func (s *bench) gateway(enter func(func() error) error) netip.Addr {
	s.Helper()
	var found netip.Addr
	err := enter(func() error {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && ip.As4()[0] == 172 {
				found = ip
			}
		}
		return err
	})
	if err != nil || !found.IsValid() {
		s.Fatalf("the task has no address on the gateway bridge: %v", err)
	}
	return found
}

// bare is a pair with a server.
func (s *bench) bare() (near *netnstest.NS, to netip.AddrPort) {
	s.Helper()
	near, to, far := s.pair()
	serve(s.B, far.Do, 80)
	return near, to
}

// pair is two namespaces with a pair of interfaces and nothing else.
func (s *bench) pair() (near *netnstest.NS, to netip.AddrPort, far *netnstest.NS) {
	s.Helper()
	near, far = netnstest.New(s.B), netnstest.New(s.B)
	err := near.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(far.Handle))})
	})
	for i, ns := range []*netnstest.NS{near, far} {
		if err == nil {
			err = ns.Do(func() error {
				link, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				addr, err := netlink.ParseAddr(fmt.Sprintf("10.9.9.%d/24", i+1))
				if err != nil {
					return err
				}
				if err := netlink.AddrAdd(link, addr); err != nil {
					return err
				}
				return netlink.LinkSetUp(link)
			})
		}
	}
	if err != nil {
		s.Fatal(err)
	}
	return near, netip.MustParseAddrPort("10.9.9.2:80"), far
}

// path is a way from a client to a server, and the path that it is compared with besides the bare pair.
type path struct {
	name, against     string
	enter             func(func() error) error
	to                netip.AddrPort
	connected, asking []time.Duration // medians of the rounds
}

const rounds, connects, asks = 15, 400, 2000

func BenchmarkPaths(b *testing.B) {
	s := newBench(b)
	s.push()
	s.task("far", 1, 10, 8080)
	near := s.task("near", 0, 11, 8081)
	caller := s.task("caller", 0, 12, 8082)
	s.push()
	veth, bare := s.bare()
	yard := s.bareVXLAN()
	port := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	paths := []*path{
		{name: "bare veth", enter: veth.Do, to: bare},
		{name: "overlay, same node", enter: caller, to: port("10.0.1.11:80")},
		{name: "VIP, same node", against: "overlay, same node", enter: caller, to: port("10.0.1.111:80")},
		{name: "bare VXLAN", enter: yard.near.Do, to: yard.to},
		{name: "overlay, other node", against: "bare VXLAN", enter: caller, to: port("10.0.1.10:80")},
		{name: "VIP, other node", against: "overlay, other node", enter: caller, to: port("10.0.1.110:80")},
		{name: "gateway bridge", enter: s.spaces[0].Do, to: netip.AddrPortFrom(s.gateway(near), 80)},
		{name: "ingress, local task", against: "gateway bridge", enter: s.spaces[0].Do, to: port("10.77.0.11:8081")},
		{name: "bare VXLAN from outside", enter: s.client.Do, to: yard.to},
		{name: "ingress from outside, local task", enter: s.client.Do, to: port("10.77.0.11:8081")},
		{name: "ingress from outside, remote task", against: "bare VXLAN from outside", enter: s.client.Do, to: port("10.77.0.11:8080")},
	}
	for b.Loop() {
		for range rounds {
			for _, p := range paths {
				p.measure(b)
			}
		}
	}
	report(b, paths)
}

func (p *path) measure(b *testing.B) {
	b.Helper()
	err := p.enter(func() error {
		if err := pin(); err != nil { // the thread that enter made ends with it
			return err
		}
		c, err := connections(p.to, connects)
		if err != nil {
			return err
		}
		r, err := roundTrips(p.to, asks)
		p.connected, p.asking = append(p.connected, c), append(p.asking, r)
		return err
	})
	if err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
}

// report prints medians over the rounds, and ratios as medians of each round's own ratio.
func report(b *testing.B, paths []*path) {
	byName := map[string]*path{}
	for _, p := range paths {
		byName[p.name] = p
	}
	bare := paths[0]
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "\npath\tconnect+request\tof bare\tof compared\trequest\tof bare\tof compared\tcompared with")
	for _, p := range paths {
		c, r := "", ""
		if base := byName[p.against]; base != nil {
			c, r = ratio(p.connected, base.connected), ratio(p.asking, base.asking)
		}
		_, _ = fmt.Fprintf(out, "%s\t%.1f µs\t%s\t%s\t%.1f µs\t%s\t%s\t%s\n", p.name, micro(p.connected), ratio(p.connected, bare.connected), c,
			micro(p.asking), ratio(p.asking, bare.asking), r, p.against)
	}
	if err := out.Flush(); err != nil {
		b.Error(err)
	}
}

func micro(rounds []time.Duration) float64 {
	return float64(median(append([]time.Duration(nil), rounds...)).Nanoseconds()) / 1000
}

func ratio(rounds, base []time.Duration) string {
	list := make([]time.Duration, len(rounds))
	const scale = 1e6
	for i := range rounds {
		list[i] = time.Duration(float64(rounds[i]) / float64(base[i]) * scale)
	}
	return fmt.Sprintf("%.2f", float64(median(list))/scale)
}
