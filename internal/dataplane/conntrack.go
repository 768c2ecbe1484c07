package dataplane

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// forgetUDP makes the namespace choose anew for UDP flows that go to backends which are gone. Without it a client that keeps
// its port would talk to a dead address for as long as it talks.
func (p *Plane) forgetUDP(ns netns.NsHandle, gone []netip.Addr) error {
	if len(gone) == 0 || p.untracked(ns) {
		return nil
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open conntrack: %w", err)
	}
	defer h.Close()
	filters := make([]netlink.CustomConntrackFilter, 0, len(gone))
	for _, a := range gone {
		f := &netlink.ConntrackFilter{}
		if err := f.AddProtocol(unix.IPPROTO_UDP); err != nil {
			return err
		}
		if err := f.AddIP(netlink.ConntrackReplySrcIP, a.AsSlice()); err != nil {
			return err
		}
		filters = append(filters, f)
	}
	if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...); err != nil {
		return fmt.Errorf("forget UDP flows: %w", err)
	}
	return nil
}

// untracked tells that no flow is tracked in the namespace. To search for one takes the kernel some milliseconds even then, since
// all namespaces share one table.
func (p *Plane) untracked(ns netns.NsHandle) bool {
	none := false
	err := inNamespace(p.home, ns, func() error {
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		none = strings.TrimSpace(string(text)) == "0"
		return err
	})
	return err == nil && none
}

// missing is what was has and now has not.
func missing(was, now []netip.Addr) []netip.Addr {
	have := map[netip.Addr]bool{}
	for _, a := range now {
		have[a] = true
	}
	var gone []netip.Addr
	for _, a := range was {
		if !have[a] {
			have[a] = true
			gone = append(gone, a)
		}
	}
	return gone
}

func vipBackends(services []VIP) []netip.Addr {
	var out []netip.Addr
	for _, v := range services {
		out = append(out, v.Backends...)
	}
	return out
}

func portBackends(ports []Port) []netip.Addr {
	var out []netip.Addr
	for _, p := range ports {
		for _, b := range p.Backends {
			out = append(out, b.Addr)
		}
	}
	return out
}
