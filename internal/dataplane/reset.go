package dataplane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Reset ends the connections that this node's containers, and clients through this node, have to addresses behind which nobody is any
// more: their hosts could not tell them. dead is by the overlay that the addresses are on; those under "" are on the mesh. Flows are
// forgotten, whereupon whoever sends is answered with a reset, and sockets are closed by the kernel where it can do that
// (CONFIG_INET_DIAG_DESTROY), so that those who only wait learn it too.
func (p *Plane) Reset(ctx context.Context, dead map[string][]netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed failures
	if node := p.applied.node; node != nil && len(dead[""]) > 0 {
		failed.note("ports", deleteFlows(node.tables, p.home, ended{setOf(dead[""]), map[ends]bool{}}))
	}
	p.parallel(ctx, keys(p.applied.sandboxes), func(name string) {
		p.partsMu.Lock()
		s := p.applied.sandboxes[name]
		p.partsMu.Unlock()
		var addrs []netip.Addr
		for _, e := range s.config.Endpoints {
			if e.Overlay != "" {
				addrs = append(addrs, dead[e.Overlay]...)
			}
		}
		if len(addrs) > 0 {
			failed.note("sandbox "+name, p.look(name, func(_ *netlink.Handle, ns netns.NsHandle) error {
				end := ended{setOf(addrs), map[ends]bool{}}
				return errors.Join(deleteFlows(s.tables, ns, end), p.destroySockets(ns, end))
			}))
		}
	})
	return errors.Join(failed.errs...)
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	for _, a := range addrs {
		set[a] = true
	}
	return set
}

// ended is the connections that are to end: those to dead addresses, and those of which connection tracking tells that they were led
// to one.
type ended struct {
	dead map[netip.Addr]bool
	led  map[ends]bool
}

// ends are a socket's own address and its peer's.
type ends struct{ local, remote netip.AddrPort }

// MatchConntrackFlow implements netlink.CustomConntrackFilter: it matches flows to dead addresses, and notes whose they are.
func (e ended) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	backend, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !e.dead[backend.Unmap()] {
		return false
	}
	from, _ := netip.AddrFromSlice(flow.Forward.SrcIP)
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	e.led[ends{netip.AddrPortFrom(from.Unmap(), flow.Forward.SrcPort), netip.AddrPortFrom(to.Unmap(), flow.Forward.DstPort)}] = true
	return true
}

func (e ended) has(socket ends) bool { return e.dead[socket.remote.Addr()] || e.led[socket] }

// endsOf reads a socket's ID.
func endsOf(id []byte, family byte) ends {
	size := map[byte]int{unix.AF_INET: 4, unix.AF_INET6: 16}[family]
	at := func(port, addr int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(id[addr : addr+size]) // of a fitting size
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(id[port:]))
	}
	return ends{local: at(0, 4), remote: at(2, 20)}
}

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

// destroySockets closes the namespace's TCP sockets of connections that are to end, as a reset would.
func (p *Plane) destroySockets(ns netns.NsHandle, end ended) error {
	conn, err := mdnetlink.Dial(unix.NETLINK_INET_DIAG, &mdnetlink.Config{NetNS: int(ns)})
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
			socket := endsOf(id, f)
			if !end.has(socket) {
				continue
			}
			_, err := conn.Execute(diagRequest(sockDestroy, mdnetlink.Acknowledge, f, id))
			if errors.Is(err, unix.EOPNOTSUPP) {
				p.log.Info("the kernel cannot close sockets: connections to nodes that are gone end by their own timeouts")
				return nil
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("close socket to %s: %w", socket.remote, err)
			}
		}
	}
	return nil
}

func diagRequest(kind mdnetlink.HeaderType, flags mdnetlink.HeaderFlags, family byte, id []byte) mdnetlink.Message {
	data := make([]byte, diagRequestSize)
	data[0], data[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(data[4:], openStates)
	copy(data[diagIDAt:], id)
	return mdnetlink.Message{Header: mdnetlink.Header{Type: kind, Flags: mdnetlink.Request | flags}, Data: data}
}
