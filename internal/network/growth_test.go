package network

import (
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// A network that has grown: who was there before reaches who has an address of the new subnet, and the other way round; so do
// nodes whose ingress addresses are of different subnets.
func TestAFurtherSubnetIsReachedBothWays(t *testing.T) {
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	old := c.task(t, "web", 0, 1)
	c.push(t)

	for id, subnets := range map[string][]shoal.Subnet{
		"netid":     {{Subnet: netip.MustParsePrefix("10.0.1.0/24")}, {Subnet: netip.MustParsePrefix("10.0.7.0/24")}},
		"ingressid": {{Subnet: netip.MustParsePrefix("10.0.0.0/24")}, {Subnet: netip.MustParsePrefix("10.0.8.0/24")}},
	} {
		grown := c.table.Networks[shoal.NetworkID(id)]
		grown.IPAM = subnets
		c.table.Networks[shoal.NetworkID(id)] = grown
	}
	peer := c.table.Peers["n1"]
	peer.IngressAddr = netip.MustParseAddr("10.0.8.2")
	c.table.Peers["n1"] = peer
	inNet, onMesh := netip.MustParsePrefix("10.0.7.9/24"), netip.MustParsePrefix("10.0.8.9/24")
	for network, addr := range map[shoal.NetworkID]netip.Prefix{"netid": inNet, "ingressid": onMesh} {
		e := shoal.Endpoint{TaskID: "fresh", NetworkID: shoal.NetworkID(network), NodeID: "n1", ServiceID: "fresh", Name: "fresh.1", Addr: addr, State: shoal.EndpointReady}
		c.table.Endpoints[e.Key()] = e
	}
	c.service("fresh", "10.0.7.2", 8081)
	c.push(t)
	sandbox, err := c.nodes[1].Up(t.Context(), shoal.SandboxSpec{ContainerID: "fresh", Name: "fresh.1", Mode: "networks", TaskID: "fresh", ServiceID: "fresh",
		Endpoints: []shoal.EndpointRequest{{Network: "netid", Addr: inNet.Addr()}}, IngressAddr: onMesh})
	if err != nil {
		t.Fatal(err)
	}
	fresh := func(f func() error) error { return netnstest.At(sandbox.Netns, f) }
	listen(t, fresh, "fresh")
	for _, probe := range []struct {
		name  string
		enter func(func() error) error
		addr  string
		who   string
	}{
		{"the old task to the new address", old, "10.0.7.9:80", "fresh"},
		{"the old task to a new VIP", old, "10.0.7.2:80", "fresh"},
		{"the new task to an old VIP", fresh, "10.0.1.2:80", "webtask1"},
		{"a client through the other node", c.client.Do, "10.77.0.11:8081", "fresh"},
		{"a client through the node of the new subnet", c.client.Do, "10.77.0.12:8080", "webtask1"},
	} {
		who, _, err := ask(probe.enter, "tcp4", probe.addr)
		if err != nil || who != probe.who {
			t.Errorf("%s: %q answered, error %v", probe.name, who, err)
		}
	}
}
