package net

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

// yardstick is what a way over VXLAN costs at least: two machines with a VXLAN device each and nothing else. The server is in a
// container of the second one, behind a pair of interfaces, as any container is.
type yardstick struct {
	near *netnstest.NS // the first machine
	far  func(func() error) error
	to   netip.AddrPort
}

// bareVXLAN makes a yardstick that the bench's client reaches by way of the first machine, and is answered by the same way.
func (s *bench) bareVXLAN() yardstick {
	s.Helper()
	one, two, box := netnstest.New(s.B), netnstest.New(s.B), netnstest.New(s.B)
	s.underlay.Plug(s.B, one, "10.77.0.51/24")
	s.underlay.Plug(s.B, two, "10.77.0.52/24")
	err := errors.Join(
		one.Do(func() error {
			return errors.Join(vxlan("10.77.0.51", "10.77.0.52", "10.98.0.1/24"), route("10.97.0.0/24", "10.98.0.2"), forward())
		}),
		two.Do(func() error {
			pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "box"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(box.Handle))}
			return errors.Join(vxlan("10.77.0.52", "10.77.0.51", "10.98.0.2/24"), netlink.LinkAdd(pair), give("box", "10.97.0.1/24"),
				route("10.77.0.99/32", "10.98.0.1"), forward())
		}),
		box.Do(func() error { return errors.Join(give("eth0", "10.97.0.2/24"), route("0.0.0.0/0", "10.97.0.1")) }),
		s.client.Do(func() error { return route("10.97.0.0/24", "10.77.0.51") }),
	)
	if err != nil {
		s.Fatal(err)
	}
	serve(s.B, box.Do, 80)
	return yardstick{one, box.Do, netip.MustParseAddrPort("10.97.0.2:80")}
}

func vxlan(from, to, addr string) error {
	err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx", MTU: 1450}, VxlanId: 77, Port: 4799,
		SrcAddr: net.ParseIP(from), Group: net.ParseIP(to)})
	if err != nil {
		return fmt.Errorf("make VXLAN device: %w", err)
	}
	return give("vx", addr)
}

func give(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
}

func route(to, via string) error {
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
}

func forward() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600) }
