package network

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestMacvlanContainersAreOnTheParentsLink(t *testing.T) {
	c := newCluster(t, 2)
	spec := shoal.NetworkSpec{Name: "wire", Driver: shoal.DriverMacvlan, Options: map[string]string{"parent": "nosuch"},
		IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.77.1.0/24"), Gateway: netip.MustParseAddr("10.77.1.1")}}}
	if _, err := c.nodes[0].Create(t.Context(), spec); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a parent that does not exist: %v", err)
	}
	spec.Options = map[string]string{"parent": "eth0"}
	var enter [2]func(func() error) error
	for i, n := range c.nodes {
		s := spec
		s.IPAM = []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.77.1.0/24"), Gateway: netip.MustParseAddr("10.77.1.1"), Range: netip.MustParsePrefix(fmt.Sprintf("10.77.1.%d/28", 16*(i+1)))}}
		if _, err := n.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		sandbox, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: fmt.Sprintf("%012d", i), Name: fmt.Sprint("c", i), Mode: "networks", Endpoints: []shoal.EndpointRequest{{Network: "wire"}}})
		if err != nil {
			t.Fatal(err)
		}
		enter[i] = func(f func() error) error { return netnstest.At(sandbox.Netns, f) }
		listen(t, enter[i], fmt.Sprint("c", i))
		if i == 0 {
			continue
		}
		addr := sandbox.Endpoints[0].Addr.Addr().String()
		if who, _, err := ask(enter[0], "tcp4", addr+":80"); err != nil || who != "c1" {
			t.Errorf("%q answers at %s: %v", who, addr, err)
		}
	}
	if err := c.nodes[0].Remove(t.Context(), "wire"); err == nil {
		t.Error("a network in use was removed")
	}
}
