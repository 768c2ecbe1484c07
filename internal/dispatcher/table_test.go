package dispatcher

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// dual is a service with a task on a network with both families.
func dual() []store.Object {
	return []store.Object{
		&shoal.Network{ID: "net", VNI: 4097, Spec: shoal.NetworkSpec{Name: "net"}},
		&shoal.Node{ID: "n", DataAddr: netip.MustParseAddr("192.0.2.1"), IngressAddr: netip.MustParsePrefix("10.0.0.2/24"), IngressAddr6: netip.MustParsePrefix("fd00::2/64")},
		&shoal.Service{ID: "s", Spec: shoal.ServiceSpec{Name: "web"},
			Endpoint: shoal.ServiceEndpoint{VIPs: []shoal.VIP{{NetworkID: "net", Addr: netip.MustParsePrefix("10.0.1.2/24"), Addr6: netip.MustParsePrefix("fd00:1::2/64")}}}},
		&shoal.Task{ID: "t", ServiceID: "s", NodeID: "n", Status: shoal.TaskStatus{State: shoal.TaskRunning},
			Networks: []shoal.TaskNetwork{{NetworkID: "net", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.3/24"), netip.MustParsePrefix("fd00:1::3/64")}}}},
	}
}

func TestTablesCarryBothFamilies(t *testing.T) {
	table := TableOf(storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: dual()}), "n")
	e := table.Endpoints["t/net"]
	if len(table.Endpoints) != 1 || e.Addr != netip.MustParsePrefix("10.0.1.3/24") || e.Addr6 != netip.MustParsePrefix("fd00:1::3/64") {
		t.Errorf("endpoints %+v", table.Endpoints)
	}
	if p := table.Peers["n"]; p.IngressAddr != netip.MustParseAddr("10.0.0.2") || p.IngressAddr6 != netip.MustParseAddr("fd00::2") {
		t.Errorf("peer %+v", p)
	}
	if s := table.Services["s"]; s.VIPs["net"] != netip.MustParsePrefix("10.0.1.2/24") || s.VIPs6["net"] != netip.MustParsePrefix("fd00:1::2/64") {
		t.Errorf("service %+v", s)
	}
}

// A rule never lags behind the port it belongs to, whichever of API and allocator has come further.
func TestMeshPortsCarryTheirRules(t *testing.T) {
	port := func(published uint16) shoal.Port {
		return shoal.Port{Protocol: shoal.TCP, Target: 80, Published: published, Mode: shoal.PublishIngress}
	}
	local := map[string]string{"shoal.publish.8080.allow": "10.0.0.0/8"}
	for name, c := range map[string]struct {
		labels    map[string]string
		asked     []shoal.Port
		allocated []shoal.Port
		want      string
	}{
		"a rule":                  {local, []shoal.Port{port(8080)}, []shoal.Port{port(8080)}, "8080[10.0.0.0/8] "},
		"no rule":                 {nil, []shoal.Port{port(8080)}, []shoal.Port{port(8080)}, "8080[] "},
		"a number of its choice":  {nil, []shoal.Port{port(0)}, []shoal.Port{port(30000)}, "30000[] "},
		"a port not yet taken in": {local, []shoal.Port{port(8080), port(90)}, []shoal.Port{port(90)}, "90[] "},
		"a port not yet let go":   {nil, []shoal.Port{port(90)}, []shoal.Port{port(8080), port(90)}, "90[] "},
	} {
		s := &shoal.Service{Spec: shoal.ServiceSpec{Labels: c.labels, Endpoint: &shoal.EndpointSpec{Ports: c.asked}}, Endpoint: shoal.ServiceEndpoint{Ports: c.allocated}}
		got := ""
		for _, p := range meshPorts(s) {
			got += fmt.Sprintf("%d%v ", p.Published, p.Rule.Allow)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The secret of encrypted traffic is for nodes that have such traffic.
func TestOnlyNodesOnEncryptedNetworksGetTheSecret(t *testing.T) {
	objects := append(dual(), &shoal.Cluster{ID: "c", TunnelSecret: []byte("secret")},
		&shoal.Network{ID: "sealed", VNI: 4098, Spec: shoal.NetworkSpec{Name: "sealed", Options: map[string]string{shoal.OptionEncrypted: ""}}},
		&shoal.Node{ID: "m", DataAddr: netip.MustParseAddr("192.0.2.2"), TunnelAddr: netip.MustParseAddr("198.18.0.2"), Description: shoal.NodeDescription{TunnelKey: "key"}},
		&shoal.Task{ID: "u", NodeID: "m", Status: shoal.TaskStatus{State: shoal.TaskRunning},
			Networks: []shoal.TaskNetwork{{NetworkID: "sealed", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.3/24")}}}})
	view := storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: objects})
	for node, want := range map[string]string{"n": "", "m": "secret"} {
		table := TableOf(view, shoal.NodeID(node))
		if got := string(table.TunnelSecret); got != want {
			t.Errorf("node %s has the secret %q, want %q", node, got, want)
		}
		if p := table.Peers["m"]; p.TunnelAddr != netip.MustParseAddr("198.18.0.2") || p.TunnelKey != "key" {
			t.Errorf("peer %+v", p)
		}
	}
}
