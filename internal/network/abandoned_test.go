package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// The VXLAN device of a daemon that was gone, pinned in its directory, kept every other daemon of the network namespace from having a network of that VNI: "create
// tunnel: file exists", without end.
func TestAnAbandonedTunnelIsInNobodysWay(t *testing.T) {
	underlay, ns, ctx := netnstest.NewUnderlay(t), netnstest.New(t), t.Context()
	underlay.Plug(t, ns, "10.77.0.11/24")
	start := func() *Networks {
		t.Helper()
		var n *Networks
		root := t.TempDir()
		err := ns.Do(func() (err error) {
			n, err = New(Config{Log: discard(), DataRoot: root + "/data", ExecRoot: root + "/exec", Quarantine: newQuarantine(root), ResolvConf: root + "/none"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	addr := netip.MustParseAddr("10.77.0.11")
	table := shoal.Table{NodeID: "n", Version: 1, DataPathPort: 4789, Peers: map[shoal.NodeID]shoal.Peer{"n": {NodeID: "n", DataAddr: addr}},
		Networks: map[shoal.NetworkID]shoal.Network{"netid": {ID: "netid", VNI: 4097, Spec: shoal.NetworkSpec{Name: "net", Driver: "overlay"}, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.1.0/24")}}}}}
	first, second := start(), start()
	if err := first.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	if err := second.Apply(ctx, table); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Fatalf("the device of a daemon that lives: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Apply(ctx, table); err != nil {
		t.Errorf("the device of a daemon that is gone: %v", err)
	}
	if err := second.Apply(ctx, shoal.Table{}); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	err := ns.Do(func() (err error) { // and the first one's namespace is removed
		first, err = New(first.cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Apply(ctx, shoal.Table{}); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}
