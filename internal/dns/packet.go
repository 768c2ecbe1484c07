package dns

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// The fast path: a query for nothing but A or AAAA records of a name in a zone is answered from the bytes of its packet, without
// decoding it into a dns.Msg. Nearly all queries within a cluster are of that kind, and decoding costs several times as much. All
// others take the slow path through dns.Msg; FuzzPackets compares the two.

const (
	headerSize = 12 // bytes of a message's header
	// The flags of a message (RFC 1035, RFC 4035).
	flagResponse           = 0x8000
	flagRecursionDesired   = 0x0100
	flagRecursionAvailable = 0x0080
	flagAuthenticData      = 0x0020
	flagCheckingDisabled   = 0x0010
	// ignoredFlags is the flags of a query that make no difference to an answer from a zone.
	ignoredFlags = flagRecursionDesired | flagAuthenticData | flagCheckingDisabled
	// nameOfQuestion is a compressed name: a pointer to the question's name, which begins after the header.
	nameOfQuestion   = 0xc000 | headerSize
	recordHeaderSize = 12 // bytes of a record with such a name, without its data
	// maxQuerySize is more bytes than any query needs; a longer packet is cut off and then refused as malformed.
	maxQuerySize = 4096
)

// parseAddressQuery reads the name, in lower case, and the type from a query for nothing but A or AAAA records; end is the offset at
// which the question ends. ok is false for all other packets.
func parseAddressQuery(packet []byte) (name string, kind uint16, end int, ok bool) {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet[2:])&^ignoredFlags != 0 ||
		binary.BigEndian.Uint64(packet[4:]) != 1<<48 { // one question and no records
		return "", 0, 0, false
	}
	var text strings.Builder
	at := headerSize
	for {
		if at >= len(packet) {
			return "", 0, 0, false
		}
		size := int(packet[at])
		at++
		if size == 0 {
			break
		}
		if size > 63 || at+size > len(packet) {
			return "", 0, 0, false
		}
		if text.Len() > 0 {
			text.WriteByte('.')
		}
		for _, c := range packet[at : at+size] {
			switch {
			case 'A' <= c && c <= 'Z':
				c += 'a' - 'A'
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return "", 0, 0, false // may need escaping
			}
			text.WriteByte(c)
		}
		at += size
	}
	if len(packet) != at+4 || at > headerSize+255 || binary.BigEndian.Uint16(packet[at+2:]) != dns.ClassINET {
		return "", 0, 0, false
	}
	kind = binary.BigEndian.Uint16(packet[at:])
	return text.String(), kind, at + 4, kind == dns.TypeA || kind == dns.TypeAAAA
}

// answerPacket appends the answer to a query for addresses to out; false if the packet must take the slow path.
func (s *Scope) answerPacket(packet, out []byte) ([]byte, bool) {
	name, kind, end, ok := parseAddressQuery(packet)
	if !ok || strings.HasPrefix(name, "_") || strings.HasSuffix(name, ".arpa") {
		return nil, false
	}
	found, _ := s.find(name)
	if len(found) == 0 {
		return nil, false
	}
	addrs := addrsOf(found, kind == dns.TypeA, kind == dns.TypeAAAA)
	if end+len(addrs)*(recordHeaderSize+16) > dns.MinMsgSize {
		return nil, false // it may not fit
	}
	out = append(out, packet[:end]...)
	flags := binary.BigEndian.Uint16(packet[2:]) & (flagRecursionDesired | flagCheckingDisabled) // a response repeats these two
	binary.BigEndian.PutUint16(out[2:], flags|flagResponse|flagRecursionAvailable)
	binary.BigEndian.PutUint16(out[6:], uint16(len(addrs))) // #nosec G115 -- few enough to fit a packet
	for _, a := range addrs {
		out = binary.BigEndian.AppendUint16(out, nameOfQuestion)
		out = binary.BigEndian.AppendUint16(out, kind)
		out = binary.BigEndian.AppendUint16(out, dns.ClassINET)
		out = binary.BigEndian.AppendUint32(out, ttl)
		out = binary.BigEndian.AppendUint16(out, uint16(a.BitLen()/8)) // #nosec G115 -- 4 or 16
		out = append(out, a.AsSlice()...)
	}
	return out, true
}

// servePackets answers by UDP until the socket is closed.
func (r *Resolver) servePackets(conn *net.UDPConn) {
	in, out := make([]byte, maxQuerySize), make([]byte, 0, dns.MinMsgSize)
	for {
		size, from, err := conn.ReadFromUDPAddrPort(in)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				r.log.Warn("resolver of a container has stopped: until the container is restarted it resolves no names by UDP", "err", err)
			}
			return
		}
		r.contain(func() {
			if answer, ok := r.scope.Load().answerPacket(in[:size], out); ok {
				_, _ = conn.WriteToUDPAddrPort(answer, from) // the container is free not to wait for it
				return
			}
			packet := append([]byte(nil), in[:size]...)
			r.done.Go(func() { r.contain(func() { r.servePacket(conn, packet, from) }) })
		})
	}
}

// servePacket answers one packet on the slow path.
func (r *Resolver) servePacket(conn *net.UDPConn, packet []byte, from netip.AddrPort) {
	query := new(dns.Msg)
	var reply *dns.Msg
	switch err := query.Unpack(packet); {
	case len(packet) < headerSize || query.Response:
		return // answering a response could go on between two servers for ever
	case err != nil:
		reply = new(dns.Msg).SetRcodeFormatError(query)
	default:
		reply = r.respond(query, true)
	}
	if answer, err := reply.Pack(); err == nil {
		_, _ = conn.WriteToUDPAddrPort(answer, from)
	}
}
