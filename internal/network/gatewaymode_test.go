package network

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// A network without IPv4 was made with IPv4 all the same.
func TestANetworkWithoutIPv4(t *testing.T) {
	c := newCluster(t, 1)
	n, no := c.nodes[0], false
	net, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "six", EnableIPv4: &no, EnableIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(net.IPAM) != 1 || !netip.MustParsePrefix("fd00::/8").Contains(net.IPAM[0].Subnet.Addr()) {
		t.Fatalf("subnets %+v", net.IPAM)
	}
	a, inA := upOn(t, n, "a", shoal.EndpointRequest{Network: "six"})
	b, inB := upOn(t, n, "b", shoal.EndpointRequest{Network: "six"})
	if a.Endpoints[0].Addr.IsValid() || !a.Endpoints[0].Addr6.IsValid() || a.Endpoints[0].MAC == b.Endpoints[0].MAC || a.Endpoints[0].MAC.IsZero() {
		t.Errorf("%+v, %+v", a.Endpoints[0], b.Endpoints[0])
	}
	listen(t, inA, "a")
	if who, _, err := ask(inB, "tcp6", "["+a.Endpoints[0].Addr6.Addr().String()+"]:80"); who != "a" {
		t.Errorf("%q answers: %v", who, err)
	}
	if got := resolve(t, inB, "ca", dns.TypeAAAA); got != a.Endpoints[0].Addr6.Addr().String() {
		t.Errorf("ca is %q", got)
	}
	if got := defaultRoute(t, inB, netlink.FAMILY_V6); got != "eth0 "+net.IPAM[0].Gateway.String() {
		t.Errorf("default route %q", got)
	}
	if _, err := n.Connect(t.Context(), strings.Repeat("a", 64), shoal.EndpointRequest{Network: "bridge", Addr6: netip.MustParseAddr("fd00::9")}); err == nil ||
		!strings.Contains(err.Error(), "no configured subnet contains IP address fd00::9") {
		t.Errorf("an IPv6 address on a network without IPv6: %v", err)
	}
	parts, err := n.repairDrift(context.WithoutCancel(t.Context()), true)
	if err != nil || len(parts) > 0 {
		t.Errorf("drift of what was just made: %v, %v", parts, err)
	}
}

// The modes of a bridge's gateway were shown and had no effect.
func TestModesOfAGateway(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	up := func(id, mode string, internal bool, options map[string]string) (shoal.Sandbox, string) {
		t.Helper()
		all := map[string]string{}
		for key, value := range options {
			all["com.docker.network."+key] = value
		}
		if mode != "" {
			all["com.docker.network.bridge.gateway_mode_ipv4"] = mode
		}
		if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "net" + id, Internal: internal, Options: all}); err != nil {
			t.Fatal(err)
		}
		sb, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: strings.Repeat(id, 64), Name: "c" + id, Mode: "networks", Endpoints: []shoal.EndpointRequest{{Network: "net" + id}},
			Ports: []shoal.PortBinding{{Protocol: shoal.TCP, Target: 80, HostPort: 8080 + uint16(id[0])}}})
		if err != nil {
			t.Fatal(err)
		}
		enter := func(f func() error) error { return netnstest.At(sb.Netns, f) }
		listen(t, enter, "c"+id)
		return sb, sb.Endpoints[0].Addr.Addr().String() + ":80"
	}
	_, nat := up("a", "", false, nil)
	_, open := up("b", "nat-unprotected", false, nil)
	routed, direct := up("c", "routed", false, nil)
	_, trusted := up("d", "", false, map[string]string{"bridge.trusted_host_interfaces": "nosuch:eth0"})
	isolated, _ := up("e", "isolated", true, nil)
	inhibited, _ := up("f", "", false, map[string]string{"bridge.inhibit_ipv4": "true"})
	for _, sb := range []shoal.Sandbox{isolated, inhibited} {
		err := n.ns.Do(func() error {
			link, err := netlink.LinkByName("br-" + string(sb.Endpoints[0].NetworkID[:12]))
			if err != nil {
				return err
			}
			addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
			if len(addrs) > 0 {
				t.Errorf("the bridge of %s has %v", sb.Endpoints[0].Network, addrs)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if isolated.Endpoints[0].Gateway.IsValid() || !inhibited.Endpoints[0].Gateway.IsValid() {
		t.Errorf("gateways %s, %s", isolated.Endpoints[0].Gateway, inhibited.Endpoints[0].Gateway)
	}
	if p := routed.Ports; len(p) != 1 || p[0].HostPort != 0 {
		t.Errorf("ports of a routed network %+v", p)
	}
	source := netip.MustParseAddr("10.77.0.77")
	err := n.ns.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: rtnl.IPNet(netip.PrefixFrom(source, 24))})
	})
	if err != nil {
		t.Fatal(err)
	}
	listen(t, c.client.Do, "client")
	sourced, _ := up("g", "", false, map[string]string{"host_ipv4": source.String()})
	if who, saw, err := ask(func(f func() error) error { return netnstest.At(sourced.Netns, f) }, "tcp4", clientAddr.String()+":80"); who != "client" || saw != source.String() {
		t.Errorf("%q, which saw %s: %v; want %s", who, saw, err, source)
	}
	// The client knows a way to the containers' own addresses.
	err = c.client.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: rtnl.IPNet(netip.MustParsePrefix("172.16.0.0/12")), Gw: n.addr.AsSlice()})
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, probe := range map[string]struct{ addr, want string }{
		"published port": {n.addr.String() + ":8177", "ca"}, "nat": {nat, ""}, "unprotected": {open, "cb"}, "routed": {direct, "cc"}, "trusted interface": {trusted, "cd"},
		"routed, another port": {strings.Replace(direct, ":80", ":81", 1), ""},
	} {
		who, saw, err := ask(c.client.Do, "tcp4", probe.addr)
		if who != probe.want || who != "" && saw != clientAddr.String() {
			t.Errorf("%s: %q answers, who saw %s: %v; want %q", name, who, saw, err, probe.want)
		}
	}
}

// A macvlan network without a parent was refused; in Docker it is one that leads nowhere.
func TestMacvlanWithoutAParent(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "alone", Driver: shoal.DriverMacvlan}); err != nil {
		t.Fatal(err)
	}
	a, inA := upOn(t, n, "a", shoal.EndpointRequest{Network: "alone"})
	_, inB := upOn(t, n, "b", shoal.EndpointRequest{Network: "alone"})
	listen(t, inA, "a")
	if who, _, err := ask(inB, "tcp4", a.Endpoints[0].Addr.Addr().String()+":80"); who != "a" {
		t.Errorf("%q answers: %v", who, err)
	}
	if got := defaultRoute(t, inB, netlink.FAMILY_V4); got != "" {
		t.Errorf("default route %q", got)
	}
	if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "ipvlan", Driver: shoal.DriverIPvlan}); err != nil && !strings.Contains(err.Error(), "has no ipvlan (CONFIG_IPVLAN)") {
		t.Error(err)
	}
}
