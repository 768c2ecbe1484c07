package directory

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/names"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// drawTable is a random table of few things.
func drawTable(t *rapid.T) shoal.Table {
	table := shoal.Table{NodeID: "n1", Peers: map[shoal.NodeID]shoal.Peer{}, Networks: map[shoal.NetworkID]shoal.Network{}, Services: map[shoal.ServiceID]shoal.ServiceEntry{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{}}
	for i := range rapid.IntRange(1, 3).Draw(t, "peers") {
		id := fmt.Sprint("n", i+1)
		table.Peers[shoal.NodeID(id)] = shoal.Peer{NodeID: shoal.NodeID(id), TunnelAddr: netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}), TunnelKey: rapid.SampledFrom([]string{"", "key"}).Draw(t, "key"),
			DataAddr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), IngressAddr: netip.AddrFrom4([4]byte{10, 0, 0, byte(240 + i)}),
			IngressAddr6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", 240+i))}
	}
	networks := []string{"mesh", "net", "other"}
	for _, id := range networks[:rapid.IntRange(1, 3).Draw(t, "networks")] {
		net := shoal.Network{ID: shoal.NetworkID(id), Spec: shoal.NetworkSpec{Name: id, Ingress: id == "mesh"}}
		if rapid.Bool().Draw(t, "encrypted") {
			net.Spec.Options = map[string]string{shoal.OptionEncrypted: ""}
		}
		table.Networks[shoal.NetworkID(id)] = net
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "services") {
		id := fmt.Sprint("s", i)
		s := shoal.ServiceEntry{ID: shoal.ServiceID(id), Name: id, VIPs: map[shoal.NetworkID]netip.Prefix{}, Aliases: map[shoal.NetworkID][]string{}}
		if rapid.Bool().Draw(t, "vip") {
			s.VIPs["net"] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(2 + i)}), 24)
			s.VIPs6 = map[shoal.NetworkID]netip.Prefix{"net": netip.MustParsePrefix(fmt.Sprintf("fd00:1::%d/64", 2+i))}
		}
		if rapid.Bool().Draw(t, "alias") {
			s.Aliases["net"] = []string{"alias"}
		}
		if rapid.Bool().Draw(t, "published") {
			s.Ports = []shoal.MeshPort{{Port: shoal.Port{Protocol: shoal.TCP, Target: 80, Published: 8000 + uint16(i)}}}
		}
		table.Services[shoal.ServiceID(id)] = s
	}
	used := rapid.Permutation([]byte{10, 11, 12, 13, 14, 15}).Draw(t, "addresses")
	for i := range rapid.IntRange(0, 6).Draw(t, "endpoints") {
		network := rapid.SampledFrom(networks).Draw(t, "network")
		e := shoal.Endpoint{TaskID: shoal.TaskID(fmt.Sprint("t", i)), NetworkID: shoal.NetworkID(network), NodeID: shoal.NodeID(fmt.Sprint("n", rapid.IntRange(1, 3).Draw(t, "node"))), Name: fmt.Sprint("task", i),
			Addr:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(slices.Index(networks, network)), used[i]}), 24),
			State: rapid.SampledFrom([]shoal.EndpointState{shoal.EndpointReady, shoal.EndpointDraining}).Draw(t, "state")}
		if rapid.Bool().Draw(t, "IPv6") {
			e.Addr6 = netip.MustParsePrefix(fmt.Sprintf("fd00:%d::%d/64", slices.Index(networks, network), used[i]))
		}
		if rapid.IntRange(0, 3).Draw(t, "of a service") > 0 {
			e.ServiceID = shoal.ServiceID(fmt.Sprint("s", rapid.IntRange(0, 2).Draw(t, "service")))
		}
		table.Endpoints[e.Key()] = e
	}
	return table
}

func newDirectory() *Directory {
	return New(Config{Log: slog.New(slog.DiscardHandler), IPv6: true, Records: names.New(true)})
}

// derived is all that a directory has derived, as it can be compared.
type derived struct {
	Remotes  map[string]dataplane.Remote
	Services map[string]dataplane.VIP
	Ports    map[dataplane.PortKey]dataplane.MeshPort
	Vias     map[netip.Addr]netip.Addr
	Hosts    map[shoal.NodeID]int
	Wired    []shoal.Peer
	Names    map[string]map[string]dns.Entry
}

func (d *Directory) all() derived {
	out := derived{Remotes: map[string]dataplane.Remote{}, Services: map[string]dataplane.VIP{}, Ports: map[dataplane.PortKey]dataplane.MeshPort{},
		Vias: maps.Collect(d.meshNextHops.All()), Hosts: d.endpointCounts, Wired: d.EncryptedPeers(), Names: d.records.All()}
	for id, o := range d.overlays {
		for a, r := range o.remotes.All() {
			out.Remotes[string(id)+" "+a.String()] = r
		}
		for a, v := range o.services.All() {
			out.Services[string(id)+" "+a.String()] = *v
		}
	}
	for key, p := range d.ports.All() {
		out.Ports[key] = *p
	}
	return out
}

// TestIncrementalUpdatesEqualAFullRebuild walks through random tables, suspicions and local tasks, and holds what is derived step by step against what
// is derived from the last table alone.
func TestIncrementalUpdatesEqualAFullRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDirectory()
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				d.SetSuspects(map[shoal.NodeID]bool{shoal.NodeID(fmt.Sprint("n", rapid.IntRange(1, 3).Draw(t, "suspect"))): true})
			case 1:
				d.SetLocalTasks(map[netip.Addr]netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(10, 15).Draw(t, "local"))}): netip.AddrFrom4([4]byte{172, 18, 0, 2})})
			default:
				delta := shoal.Difference(d.table, drawTable(t))
				d.Update(&delta)
			}
		}
		fresh := newDirectory()
		fresh.suspects, fresh.localTasks = d.suspects, d.localTasks
		delta := shoal.Difference(fresh.table, d.table)
		fresh.Update(&delta)
		if got, want := d.all(), fresh.all(); !reflect.DeepEqual(got, want) {
			t.Fatalf("step by step\n%+v, at once\n%+v", got, want)
		}
	})
}

// A node whose key is not known is sent nothing that would have to be encrypted.
func TestWithoutAKeyNothingIsSent(t *testing.T) {
	addr := func(last byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, last}), 24) }
	d := newDirectory()
	table := shoal.Table{NodeID: "n1", Networks: map[shoal.NetworkID]shoal.Network{
		"open":   {ID: "open"},
		"sealed": {ID: "sealed", Spec: shoal.NetworkSpec{Options: map[string]string{shoal.OptionEncrypted: ""}}},
	}, Peers: map[shoal.NodeID]shoal.Peer{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{}}
	for i, key := range []string{"", "", "key"} {
		id := fmt.Sprint("n", i+1)
		table.Peers[shoal.NodeID(id)] = shoal.Peer{NodeID: shoal.NodeID(id), DataAddr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), TunnelAddr: netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}), TunnelKey: key}
		for _, network := range []string{"open", "sealed"} {
			e := shoal.Endpoint{TaskID: shoal.TaskID(id), NetworkID: shoal.NetworkID(network), NodeID: shoal.NodeID(id), Addr: addr(byte(10 + i)), State: shoal.EndpointReady}
			table.Endpoints[e.Key()] = e
		}
	}
	delta := shoal.Difference(d.table, table)
	d.Update(&delta)
	for network, want := range map[string]map[netip.Addr]string{
		"open":   {addr(11).Addr(): "192.0.2.2", addr(12).Addr(): "192.0.2.3"},
		"sealed": {addr(12).Addr(): "198.18.0.3"},
	} {
		got := map[netip.Addr]string{}
		for a, r := range d.overlays[shoal.NetworkID(network)].remotes.All() {
			got[a] = r.VTEP.String()
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", network, got, want)
		}
	}
	if peers := d.EncryptedPeers(); len(peers) != 1 || peers[0].NodeID != "n3" {
		t.Errorf("encrypts to %+v", peers)
	}
}

// A MAC that cannot be read keeps this node from sending to its endpoint, not to the others on the network.
func TestAnEndpointWithAnUnreadableMACIsLeftOut(t *testing.T) {
	d := newDirectory()
	table := shoal.Table{NodeID: "n1", Networks: map[shoal.NetworkID]shoal.Network{"net": {ID: "net"}},
		Peers: map[shoal.NodeID]shoal.Peer{"n1": {NodeID: "n1"}, "n2": {NodeID: "n2", DataAddr: netip.MustParseAddr("192.0.2.2")}}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{}}
	want := map[netip.Addr]string{}
	for i, mac := range []string{"", "nonsense", "02:00:00:00:00:07"} {
		addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)}), 24)
		e := shoal.Endpoint{TaskID: shoal.TaskID(fmt.Sprint("t", i)), NetworkID: "net", NodeID: "n2", Addr: addr, MAC: shoal.DecodeMAC(mac)}
		table.Endpoints[e.Key()] = e
		switch mac {
		case "":
			want[addr.Addr()] = "02:42:0a:00:01:0a"
		case "02:00:00:00:00:07":
			want[addr.Addr()] = mac
		}
	}
	delta := shoal.Difference(d.table, table)
	d.Update(&delta)
	got := map[netip.Addr]string{}
	for a, r := range d.Remotes("net").All() {
		got[a] = r.MAC.String()
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
