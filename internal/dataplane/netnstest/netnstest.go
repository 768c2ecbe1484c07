// Package netnstest gives tests network namespaces of their own: nodes on a common underlay and whatever is behind them. It
// writes nothing that outlives the test; the namespaces have no names.
package netnstest

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NS is a network namespace that ends with the test.
type NS struct{ Handle netns.NsHandle }

// New returns a fresh namespace with its loopback up. The test fails without root.
func New(t testing.TB) *NS {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	ns := &NS{Handle: netns.None()}
	err := InNew(func() (err error) {
		ns.Handle, err = netns.Get()
		return err
	})
	if err != nil {
		t.Fatalf("make namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Handle.Close() })
	return ns
}

// InNew runs f on a thread inside a fresh namespace with its loopback up, for examples, which have no testing.TB. The namespace ends with f unless f
// has opened it.
func InNew(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		return f()
	})
}

// Do runs f on a thread inside the namespace.
func (n *NS) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.Handle); err != nil {
			return err
		}
		return f()
	})
}

// At runs f inside the namespace pinned at path.
func At(path string, f func() error) error {
	h, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer h.Close()
	return (&NS{h}).Do(f)
}

// onThread runs f on a thread that ends with it: the goroutine never unlocks it.
func onThread(f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		errs <- f()
	}()
	return <-errs
}

// Underlay is a bridge in a namespace of its own: the switch that connects nodes.
type Underlay struct {
	ns    *NS
	ports int
}

// NewUnderlay returns a switch without nodes.
func NewUnderlay(t testing.TB) *Underlay {
	t.Helper()
	u := &Underlay{ns: New(t)}
	must(t, u.ns.Do(func() error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sw0"}}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		return netlink.LinkSetUp(br)
	}))
	return u
}

// Plug gives the namespace an interface eth0 on the switch with the address and prefix length ("10.77.0.11/24").
func (u *Underlay) Plug(t testing.TB, n *NS, cidr string) {
	t.Helper()
	u.ports++
	must(t, u.ns.Do(func() error {
		br, err := netlink.LinkByName("sw0")
		if err != nil {
			return err
		}
		port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("port%d", u.ports), MasterIndex: br.Attrs().Index},
			PeerName: "eth0", PeerNamespace: netlink.NsFd(int(n.Handle))}
		if err := netlink.LinkAdd(port); err != nil {
			return err
		}
		return netlink.LinkSetUp(port)
	}))
	must(t, n.Do(func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		ip, subnet, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		subnet.IP = ip
		if err := netlink.AddrAdd(eth, &netlink.Addr{IPNet: subnet}); err != nil {
			return err
		}
		return netlink.LinkSetUp(eth)
	}))
}

// Cut takes the switch's n-th port (from 1, in the order of Plug) down, or up again.
func (u *Underlay) Cut(t testing.TB, port int, down bool) {
	t.Helper()
	must(t, u.ns.Do(func() error {
		l, err := netlink.LinkByName(fmt.Sprintf("port%d", port))
		if err != nil {
			return err
		}
		if down {
			return netlink.LinkSetDown(l)
		}
		return netlink.LinkSetUp(l)
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
