package network

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// upOn gives a container a sandbox with these endpoints.
func upOn(t *testing.T, n *node, id string, endpoints ...shoal.EndpointRequest) (shoal.Sandbox, func(func() error) error) {
	t.Helper()
	sb, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: strings.Repeat(id, 64), Name: "c" + id, Hostname: "host-" + id, Mode: "networks", Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	return sb, func(f func() error) error { return netnstest.At(sb.Netns, f) }
}

// defaultRoute is the interface and the next hop of a namespace's default route.
func defaultRoute(t *testing.T, enter func(func() error) error, family int) string {
	t.Helper()
	found := ""
	err := enter(func() error {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		if err != nil {
			return err
		}
		for _, r := range routes {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				return err
			}
			found += fmt.Sprintf("%s %s", link.Attrs().Name, r.Gw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// resolve is the addresses that the container's resolver gives for a name.
func resolve(t *testing.T, enter func(func() error) error, name string, kind uint16) string {
	t.Helper()
	text := ""
	err := enter(func() error {
		reply, err := dns.Exchange(new(dns.Msg).SetQuestion(name+".", kind), "127.0.0.11:53")
		if err != nil {
			return err
		}
		for _, rr := range reply.Answer {
			switch r := rr.(type) {
			case *dns.A:
				text += r.A.String()
			case *dns.AAAA:
				text += r.AAAA.String()
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("resolve %s: %v", name, err)
	}
	return text
}

// What was asked for an endpoint in its driver options was shown, and had no effect.
func TestOptionsOfEndpoints(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	for _, name := range []string{"na", "nb"} {
		if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	second := netip.MustParseAddr("169.254.8.8")
	sb, enter := upOn(t, n, "a", shoal.EndpointRequest{Network: "na"}, shoal.EndpointRequest{Network: "nb", GwPriority: 1, LinkLocal: []netip.Addr{second},
		DriverOpts: map[string]string{shoal.OptionInterfaceName: "front0", shoal.OptionEndpointSysctls: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.ifname.forwarding=0"}})
	if sb.Endpoints[0].Interface != "eth0" || sb.Endpoints[1].Interface != "front0" {
		t.Errorf("interfaces %s, %s", sb.Endpoints[0].Interface, sb.Endpoints[1].Interface)
	}
	if got, want := defaultRoute(t, enter, netlink.FAMILY_V4), "front0 "+sb.Endpoints[1].Gateway.String(); got != want {
		t.Errorf("default route %s, want that of the higher priority, %s", got, want)
	}
	err := enter(func() error {
		for key, want := range map[string]string{"log_martians": "1", "forwarding": "0"} {
			if got, err := os.ReadFile("/proc/sys/net/ipv4/conf/front0/" + key); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %q, %v", key, got, err)
			}
		}
		link, err := netlink.LinkByName("front0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if text := fmt.Sprint(addrs); !strings.Contains(text, "169.254.8.8/16") {
			t.Errorf("addresses %s, without the link-local one", text)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for want, bad := range map[string]map[string]string{
		"unrecognised network interface sysctl 'net.ipv4.ip_forward=1'": {shoal.OptionEndpointSysctls: "net.ipv4.ip_forward=1"},
		"invalid interface name":                     {shoal.OptionInterfaceName: "far too long a name"},
		"has an interface front0 already":            {shoal.OptionInterfaceName: "front0"},
		"unrecognised network interface sysctl '../": {shoal.OptionEndpointSysctls: "../net.ipv4.conf.IFNAME.x=1"},
	} {
		if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "nc"}); err != nil && !errdefs.IsConflict(err) {
			t.Fatal(err)
		}
		if _, err := n.Connect(t.Context(), strings.Repeat("a", 64), shoal.EndpointRequest{Network: "nc", DriverOpts: bad}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", bad, err, want)
		}
	}
}

// Links of an endpoint on a user's network were shown and had no effect, and a container's own hostname was not found.
func TestNamesOfLinksAndHostnames(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "net"}); err != nil {
		t.Fatal(err)
	}
	a, inA := upOn(t, n, "a", shoal.EndpointRequest{Network: "net"})
	_, inB := upOn(t, n, "b", shoal.EndpointRequest{Network: "net", Links: []string{"ca:Store", "/ca"}})
	want := a.Endpoints[0].Addr.Addr().String()
	for name, enter := range map[string]func(func() error) error{"store": inB, "ca": inB, "host-a": inB} {
		if got := resolve(t, enter, name, dns.TypeA); got != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	if got := resolve(t, inB, "host-b", dns.TypeA); got == "" {
		t.Error("a container does not find its own hostname")
	}
	if got := resolve(t, inA, "store", dns.TypeA); got != "" {
		t.Errorf("the alias of another container's link is %s", got)
	}
}
