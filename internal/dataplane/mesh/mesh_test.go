package mesh

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

// A change of other nodes' tasks made the mesh forget its zones: a second later it was taken for changed by others and made anew as a whole.
func TestAChangeOfTasksIsNoDrift(t *testing.T) {
	ns := netnstest.New(t)
	var node *netns.Namespace
	if err := ns.Do(func() (err error) {
		node, err = netns.Current()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	links, err := netlink.NewHandleAt(vnetns.NsHandle(node.FD()))
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	m := New(node, links, "shoal")
	peer := netip.MustParseAddr("10.0.0.3")
	mesh := func(tasks ...string) *config.Ingress {
		in := &config.Ingress{VNI: 4096, Port: 4789, Local: netip.MustParseAddr("127.0.0.1"), MTU: 1450, Addr: netip.MustParsePrefix("10.0.0.2/24"), GatewayBridge: "lo",
			Peers: []config.IngressPeer{{Addr: peer, VTEP: netip.MustParseAddr("127.0.0.2"), Host: netip.MustParseAddr("127.0.0.2")}}}
		for _, task := range tasks {
			in.Tasks = in.Tasks.Set(netip.MustParseAddr(task), peer)
		}
		return in
	}
	for _, in := range []*config.Ingress{mesh(), mesh("10.0.0.9"), mesh("10.0.0.9", "10.0.0.10"), mesh("10.0.0.10")} {
		if err := m.Apply(in); err != nil {
			t.Fatal(err)
		}
		if m.Drifted(true) {
			t.Error("what was applied is taken for changed by others")
		}
	}
	if err := m.Apply(nil); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
