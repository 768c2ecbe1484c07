package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// briefly is how many seconds connection tracking remembers a closed TCP connection. A client whose server closed first may use the
// same port again at once; as long as the old connection is remembered, the new one goes to the old one's backend, whether that
// is its turn or not, and whether it still exists or not. The kernel's two minutes are enough for a busy client to come round.
const briefly, kernelDefault = "2", "120"

// closeBriefly sets that for the namespace that the calling thread is in, or takes it back.
func closeBriefly(yes bool) error {
	const key = "net/netfilter/nf_conntrack_tcp_timeout_time_wait"
	now, err := os.ReadFile("/proc/sys/" + key)
	switch {
	case err != nil:
	case yes:
		err = sysctl(key, briefly)
	case strings.TrimSpace(string(now)) == briefly:
		err = sysctl(key, kernelDefault)
	}
	if err != nil {
		return fmt.Errorf("set the memory of closed connections: %w", err)
	}
	return nil
}

// stale matches flows that would lead a datagram or a new connection to a backend that is gone: all of UDP's, and of TCP's those
// that are closed, and those that have had no answer yet: the next attempt of their client goes to another. Open connections are left
// to drain.
type stale map[netip.Addr]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	backend, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !s[backend.Unmap()] {
		return false
	}
	tcp, ok := flow.ProtoInfo.(*netlink.ProtoInfoTCP)
	return flow.Forward.Protocol == unix.IPPROTO_UDP ||
		ok && (tcp.State == nl.TCP_CONNTRACK_TIME_WAIT || tcp.State == nl.TCP_CONNTRACK_CLOSE || tcp.State == nl.TCP_CONNTRACK_SYN_SENT)
}

// forget makes the namespace choose anew for flows that go to backends which are gone. Without it a client that keeps its port
// would talk to a dead address for as long as it talks.
func (p *Plane) forget(ns netns.NsHandle, t *tables, gone []netip.Addr) error {
	if len(gone) == 0 || p.untracked(ns) {
		return nil
	}
	return deleteFlows(t, ns, stale(setOf(gone)))
}

// deleteFlows makes the namespace forget the flows that the filter matches.
func deleteFlows(t *tables, ns netns.NsHandle, filter netlink.CustomConntrackFilter) error {
	h, err := t.flows(ns)
	if err != nil {
		return err
	}
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		// An interrupted dump has shown nearly all; what is left soon ends.
		_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, f, filter)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("forget flows to removed backends: %w", err)
		}
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
