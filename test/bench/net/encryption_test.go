package net

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"text/tabwriter"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// TestMain makes the benchmark's own program the WireGuard process, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == wireguard.Word {
		if err := wireguard.Main(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const sealedID = "sealedid"

// seal adds an encrypted network.
func (s *bench) seal() {
	s.Helper()
	s.table.TunnelSecret = make([]byte, 32)
	s.table.Networks[sealedID] = shoal.Network{ID: sealedID, VNI: 4098, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.2.0/24")}},
		Spec: shoal.NetworkSpec{Name: "sealed", Driver: "overlay", Options: map[string]string{shoal.OptionEncrypted: ""}}}
	for i, n := range s.nodes {
		peer := s.table.Peers[shoal.NodeID(fmt.Sprint("n", i))]
		peer.TunnelAddr, peer.TunnelKey = netip.AddrFrom4([4]byte{198, 18, 0, byte(1 + i)}), n.TunnelKey()
		s.table.Peers[peer.NodeID] = peer
	}
}

// sealed runs a container with a server on the encrypted network.
func (s *bench) sealed(name string, node int, last byte) func(func() error) error {
	s.Helper()
	addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, last}), 24)
	e := shoal.Endpoint{TaskID: shoal.TaskID(name), NetworkID: sealedID, NodeID: shoal.NodeID(fmt.Sprint("n", node)), Name: name, Addr: addr, MAC: shoal.MACFor(addr.Addr()), State: shoal.EndpointReady}
	s.table.Endpoints[e.Key()] = e
	id := fmt.Sprintf("%02x%062x", 100+last, 0)
	sandbox, err := s.nodes[node].Up(s.Context(), shoal.SandboxSpec{ContainerID: id, Name: name, Hostname: "h", Mode: "networks", TaskID: shoal.TaskID(name),
		Endpoints: []shoal.EndpointRequest{{Network: sealedID, Addr: addr.Addr()}}})
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

// BenchmarkEncryption prints what it costs to encrypt what goes between two nodes.
func BenchmarkEncryption(b *testing.B) {
	s := newBench(b)
	s.seal()
	s.push()
	far, caller := s.task("far", 1, 10, 8080), s.task("caller", 0, 12, 8082)
	sealedFar, sealedCaller := s.sealed("sealed-far", 1, 10), s.sealed("sealed-caller", 0, 12)
	s.push()
	at := func(text string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(text), port)
	}
	paths := []*path{
		{name: "overlay, other node", enter: caller, to: at("10.0.1.10", 80)},
		{name: "the same, encrypted", against: "overlay, other node", enter: sealedCaller, to: at("10.0.2.10", 80)},
	}
	lines := []*line{
		{name: "overlay, other node", enter: caller, to: at("10.0.1.10", sinkPort), sink: newSink(b, far)},
		{name: "the same, encrypted", against: "overlay, other node", enter: sealedCaller, to: at("10.0.2.10", sinkPort), sink: newSink(b, sealedFar)},
	}
	for b.Loop() {
		for range rateRounds {
			for i := range lines {
				paths[i].measure(b)
				lines[i].measure(b)
			}
		}
	}
	report(b, paths)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "\npath\tTCP\tUDP, 64 bytes")
	for _, l := range lines {
		_, _ = fmt.Fprintf(out, "%s\t%.2f Gbit/s\t%.0f k/s\n", l.name, mid(l.bytes)*8/1e9, mid(l.pps)/1000)
	}
	_, _ = fmt.Fprintf(out, "of plain\t%s\t%s\n", quotient(lines[1].bytes, lines[0].bytes), quotient(lines[1].pps, lines[0].pps))
	if err := out.Flush(); err != nil {
		b.Error(err)
	}
}
