package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// DeadPeers is the addresses whose connections are to end, and those connections that were translated to one of them, as connection tracking tells.
type DeadPeers struct {
	addrs      map[netip.Addr]bool
	translated map[connection]bool
}

// NewDeadPeers is the connections to these addresses.
func NewDeadPeers(addrs []netip.Addr) *DeadPeers {
	return &DeadPeers{setOf(addrs), map[connection]bool{}}
}

// connection is a socket's own address and its peer's.
type connection struct{ local, remote netip.AddrPort }

// MatchConntrackFlow implements netlink.CustomConntrackFilter: it matches flows to dead addresses, and notes which connections they are.
func (d *DeadPeers) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	backend, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !d.addrs[backend.Unmap()] {
		return false
	}
	from, _ := netip.AddrFromSlice(flow.Forward.SrcIP)
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	d.translated[connection{netip.AddrPortFrom(from.Unmap(), flow.Forward.SrcPort), netip.AddrPortFrom(to.Unmap(), flow.Forward.DstPort)}] = true
	return true
}

func (d *DeadPeers) has(c connection) bool { return d.addrs[c.remote.Addr()] || d.translated[c] }

// The messages of NETLINK_INET_DIAG (linux/inet_diag.h).
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	diagRequestSize  = 56 // struct inet_diag_req_v2: family, protocol, extensions, states, and the socket's ID
	diagIDAt         = 8
	diagReplyIDAt    = 4  // in struct inet_diag_msg
	diagIDSize       = 48 // ports, own and peer's address in 16 bytes each, interface, cookie
	// All states but those of sockets that listen or are closed already.
	openStates = 0xfff &^ (1<<10 | 1<<7 | 1<<6)
)

// CloseSockets closes the namespace's TCP sockets of connections to dead peers, as a reset from the peer would. The error is
// errors.ErrUnsupported if the kernel cannot do that (CONFIG_INET_DIAG_DESTROY): then they end by their own timeouts.
func CloseSockets(ns *netns.Namespace, dead *DeadPeers) error {
	conn, err := mdnetlink.Dial(unix.NETLINK_INET_DIAG, &mdnetlink.Config{NetNS: ns.FD()})
	if err != nil {
		return fmt.Errorf("open socket diagnosis: %w", err)
	}
	defer func() { _ = conn.Close() }()
	for _, f := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := conn.Execute(diagRequest(sockDiagByFamily, mdnetlink.Dump, f, nil))
		if err != nil {
			return fmt.Errorf("list sockets: %w", err)
		}
		for _, m := range list {
			if len(m.Data) < diagReplyIDAt+diagIDSize {
				continue
			}
			id := m.Data[diagReplyIDAt : diagReplyIDAt+diagIDSize]
			socket := parseSocketID(id, f)
			if !dead.has(socket) {
				continue
			}
			_, err := conn.Execute(diagRequest(sockDestroy, mdnetlink.Acknowledge, f, id))
			if errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("close sockets: %w", errors.ErrUnsupported)
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("close socket to %s: %w", socket.remote, err)
			}
		}
	}
	return nil
}

// parseSocketID reads a struct inet_diag_sockid.
func parseSocketID(id []byte, family byte) connection {
	size := map[byte]int{unix.AF_INET: 4, unix.AF_INET6: 16}[family]
	at := func(port, addr int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(id[addr : addr+size]) // of a fitting size
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(id[port:]))
	}
	return connection{local: at(0, 4), remote: at(2, 20)}
}

func diagRequest(kind mdnetlink.HeaderType, flags mdnetlink.HeaderFlags, family byte, id []byte) mdnetlink.Message {
	data := make([]byte, diagRequestSize)
	data[0], data[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(data[4:], openStates)
	copy(data[diagIDAt:], id)
	return mdnetlink.Message{Header: mdnetlink.Header{Type: kind, Flags: mdnetlink.Request | flags}, Data: data}
}
