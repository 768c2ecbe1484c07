// Package conntrack makes a namespace forget flows that lead to backends which are gone, and closes the TCP sockets of connections to dead
// addresses (sockdiag.go). It reads and writes the connection tracking table, one sysctl of it, and sockets.
package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// timeWait is for how many seconds connection tracking remembers a closed TCP connection. A client whose server closed first may use the same
// port again at once; as long as the old connection is remembered, the new one is sent to the old one's backend, though it may be another's turn, and
// even if that backend no longer exists. The kernel's default is so long that a busy client gets round to the same port within it.
const timeWait, kernelTimeWait = "2", "120"

// ShortenTimeWait makes the namespace of the calling thread forget closed TCP connections early, or, if short is false, takes that back.
func ShortenTimeWait(short bool) error {
	const key = "net/netfilter/nf_conntrack_tcp_timeout_time_wait"
	now, err := netns.Sysctl(key)
	switch {
	case err != nil:
	case short:
		err = netns.SetSysctl(key, timeWait)
	case now == timeWait:
		err = netns.SetSysctl(key, kernelTimeWait)
	}
	if err != nil {
		return fmt.Errorf("set for how long closed connections are tracked: %w", err)
	}
	return nil
}

// Table is a namespace's connection tracking. The zero Table opens its connection to the kernel when it is first used, and keeps it.
type Table struct{ handle *netlink.Handle }

// Close ends the connection.
func (t *Table) Close() {
	if t.handle != nil {
		t.handle.Close()
		t.handle = nil
	}
}

// ForgetBackends makes the namespace choose a backend anew for flows that go to removed ones. Without it a client that keeps its port would talk to a
// dead address for as long as it talks. ns is the table's namespace.
func (t *Table) ForgetBackends(ns *netns.Namespace, removed []netip.Addr) error {
	if len(removed) == 0 || Empty(ns) {
		return nil
	}
	return t.delete(ns, staleFlows(setOf(removed)))
}

// ForgetDead makes the namespace forget all flows to the dead addresses, and notes in dead the connections that they belong to.
func (t *Table) ForgetDead(ns *netns.Namespace, dead *DeadPeers) error { return t.delete(ns, dead) }

// delete makes the namespace forget the flows that the filter matches.
func (t *Table) delete(ns *netns.Namespace, filter netlink.CustomConntrackFilter) error {
	if t.handle == nil {
		h, err := netlink.NewHandleAt(vnetns.NsHandle(ns.FD()), unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("open conntrack: %w", err)
		}
		t.handle = h
	}
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		// An interrupted dump has shown nearly all; what is left soon ends.
		_, err := t.handle.ConntrackDeleteFilters(netlink.ConntrackTable, f, filter)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("forget flows to removed backends: %w", err)
		}
	}
	return nil
}

// Empty tells that no flow is tracked in the namespace. To search for one takes the kernel some milliseconds even then, since all namespaces share
// one table.
func Empty(ns *netns.Namespace) bool {
	count := ""
	err := ns.Run(func() (err error) {
		count, err = netns.Sysctl("net/netfilter/nf_conntrack_count")
		return err
	})
	return err == nil && count == "0"
}

// staleFlows matches flows that would lead a datagram or a new connection to one of these backends: all of UDP's, and of TCP's those that are closed
// and those that have had no answer yet, so that their client's next attempt goes to another backend. Open connections are left to drain.
type staleFlows map[netip.Addr]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	backend, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !s[backend.Unmap()] {
		return false
	}
	tcp, ok := flow.ProtoInfo.(*netlink.ProtoInfoTCP)
	return flow.Forward.Protocol == unix.IPPROTO_UDP ||
		ok && (tcp.State == nl.TCP_CONNTRACK_TIME_WAIT || tcp.State == nl.TCP_CONNTRACK_CLOSE || tcp.State == nl.TCP_CONNTRACK_SYN_SENT)
}

// Removed is what before has and after has not, each address once.
func Removed(before, after []netip.Addr) []netip.Addr {
	seen := setOf(after)
	var removed []netip.Addr
	for _, a := range before {
		if !seen[a] {
			seen[a] = true
			removed = append(removed, a)
		}
	}
	return removed
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	for _, a := range addrs {
		set[a] = true
	}
	return set
}
