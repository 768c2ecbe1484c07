package dns

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Nearly all that containers ask for within the cluster is the addresses of one name. Such a query is answered here, packet to packet, because
// making a dns.Msg of it costs several times as much (test/bench/dns). All other queries go through the DNS library: see Resolver.reply.

const (
	headerSize = 12 // of a message
	// The flags of a message (RFC 1035, RFC 4035).
	flagResponse           = 0x8000
	flagRecursionDesired   = 0x0100
	flagRecursionAvailable = 0x0080
	flagAuthenticData      = 0x0020
	flagCheckingDisabled   = 0x0010
	// ignoredFlags is the flags of a query that make no difference to an answer from a zone.
	ignoredFlags = flagRecursionDesired | flagAuthenticData | flagCheckingDisabled
	// nameOfQuestion is a compressed name: a pointer to the name in the question, which begins after the header.
	nameOfQuestion = 0xc000 | headerSize
	// recordHeaderSize is the size of a record with such a name, without its data.
	recordHeaderSize = 12
	// maxQuerySize is more than any query needs. Of a longer packet only the beginning is read, which is then no valid message.
	maxQuerySize = 4096
)

// parseAddressQuery reads the name, in lower case, and the record type from a packet that asks one question, for A or AAAA records; end is
// where the question ends in the packet. It is not ok for any other packet.
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
				return "", 0, 0, false // an unusual character, which the DNS library has to escape
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

// answerPacket appends the answer to a query for addresses to out. It is false if the query has to go through the DNS library.
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
		return nil, false // the answer may have to be truncated
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
		if answer, ok := r.scope.Load().answerPacket(in[:size], out); ok {
			_, _ = conn.WriteToUDPAddrPort(answer, from) // a client that no longer listens misses nothing
			continue
		}
		packet := append([]byte(nil), in[:size]...)
		r.done.Go(func() { r.servePacket(conn, packet, from) })
	}
}

// servePacket answers one packet by way of the DNS library.
func (r *Resolver) servePacket(conn *net.UDPConn, packet []byte, from netip.AddrPort) {
	query := new(dns.Msg)
	var reply *dns.Msg
	switch err := query.Unpack(packet); {
	case len(packet) < headerSize || query.Response:
		return // no query; answering a response could make two servers answer each other for ever
	case err != nil:
		reply = new(dns.Msg).SetRcodeFormatError(query)
	default:
		reply = r.respond(query, true)
	}
	if answer, err := reply.Pack(); err == nil {
		_, _ = conn.WriteToUDPAddrPort(answer, from)
	}
}
