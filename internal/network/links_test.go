package network

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// A container that was linked to another went on with the address that this had before it was started again.
func TestALinkFollowsItsTargetsAddress(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	up := func(id string, links ...string) shoal.Sandbox {
		t.Helper()
		sb, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: strings.Repeat(id, 64), Name: "c" + id, Mode: "bridge", Links: links})
		if err != nil {
			t.Fatal(err)
		}
		return sb
	}
	before := up("a")
	web := up("b", "ca:store")
	file, err := os.OpenFile(web.Hosts, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString("10.9.9.9\tmine\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Down(context.WithoutCancel(t.Context()), strings.Repeat("a", 64)); err != nil {
		t.Fatal(err)
	}
	up("d") // takes the address
	after := up("a")
	if before.Endpoints[0].Addr == after.Endpoints[0].Addr {
		t.Fatal("the target has the same address")
	}
	text, err := os.ReadFile(web.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	if hosts := string(text); !strings.Contains(hosts, after.Endpoints[0].Addr.Addr().String()+"\tstore ") || strings.Contains(hosts, before.Endpoints[0].Addr.Addr().String()+"\t") ||
		!strings.HasSuffix(hosts, "10.9.9.9\tmine\n") {
		t.Errorf("hosts of who is linked:\n%s", hosts)
	}
}

// The setting allow-direct-routing had no effect.
func TestDirectRoutingReachesPublishedPorts(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	err := c.client.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: rtnl.IPNet(netip.MustParsePrefix("172.16.0.0/12")), Gw: n.addr.AsSlice()})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, allowed := range []bool{false, true} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n.cfg.Defaults.DirectRouting = allowed
		n.start(t)
		sb, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: strings.Repeat("a", 64), Name: "ca", Mode: "bridge", Ports: []shoal.PortBinding{{Protocol: shoal.TCP, Target: 80, HostPort: 8080}}})
		if err != nil {
			t.Fatal(err)
		}
		listen(t, func(f func() error) error { return netnstest.At(sb.Netns, f) }, "ca")
		addr := sb.Endpoints[0].Addr.Addr().String()
		want := map[bool]string{true: "ca"}[allowed]
		if who, _, err := ask(c.client.Do, "tcp4", addr+":80"); who != want {
			t.Errorf("allowed %t: %q answers at its own address: %v", allowed, who, err)
		}
		if who, _, err := ask(c.client.Do, "tcp4", addr+":81"); who != "" {
			t.Errorf("allowed %t: %q answers at a port that is not published: %v", allowed, who, err)
		}
		if who, _, err := ask(c.client.Do, "tcp4", n.addr.String()+":8080"); who != "ca" {
			t.Errorf("allowed %t: %q answers at the node's address: %v", allowed, who, err)
		}
		if err := n.Down(context.WithoutCancel(t.Context()), strings.Repeat("a", 64)); err != nil {
			t.Fatal(err)
		}
	}
}

// On a bridge whose containers do not talk to each other a link opened nothing.
func TestALinkOnABridgeWithoutICC(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.cfg.Defaults.Bridge.NoICC = true
	n.start(t)
	up := func(id string, links ...string) (shoal.Sandbox, func(func() error) error) {
		t.Helper()
		sb, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: strings.Repeat(id, 64), Name: "c" + id, Mode: "bridge", Links: links, Exposed: []shoal.PortBinding{{Protocol: shoal.TCP, Target: 80}}})
		if err != nil {
			t.Fatal(err)
		}
		enter := func(f func() error) error { return netnstest.At(sb.Netns, f) }
		listen(t, enter, "c"+id)
		return sb, enter
	}
	target, inTarget := up("a")
	linked, inLinked := up("b", "ca:store")
	_, inOther := up("d")
	addr := target.Endpoints[0].Addr.Addr().String()
	if who, _, err := ask(inLinked, "tcp4", addr+":80"); who != "ca" {
		t.Errorf("who is linked reaches %q: %v", who, err)
	}
	if who, _, _ := ask(inLinked, "udp4", addr+":80"); who != "" {
		t.Errorf("who is linked reaches %q at a port that is not exposed", who)
	}
	if who, _, _ := ask(inOther, "tcp4", addr+":80"); who != "" {
		t.Errorf("who is not linked reaches %q", who)
	}
	if who, _, _ := ask(inTarget, "tcp4", linked.Endpoints[0].Addr.Addr().String()+":80"); who != "" {
		t.Errorf("the target reaches %q", who)
	}
}
