package dns

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func packed(f *testing.F, query *dns.Msg) []byte {
	f.Helper()
	b, err := query.Pack()
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// FuzzPackets asks a resolver whatever can be read as a message, while its upstream says the same: there is one reply, to this
// query, that fits.
func FuzzPackets(f *testing.F) {
	for name, kind := range map[string]uint16{"web.": dns.TypeA, "tasks.a_web.": dns.TypeANY, "_http._tcp.web.": dns.TypeSRV, "_.": dns.TypeSRV, "_tcp.": dns.TypeSRV,
		"10.1.0.10.in-addr.arpa.": dns.TypePTR, "in-addr.arpa.": dns.TypePTR, "ip6.arpa.": dns.TypePTR, ".": dns.TypeNS, "front.": dns.TypeA, "example.org.": dns.TypeAAAA} {
		f.Add(packed(f, new(dns.Msg).SetQuestion(name, kind)), []byte{})
	}
	big := new(dns.Msg).SetQuestion("example.org.", dns.TypeTXT).SetEdns0(512, true)
	answer := new(dns.Msg).SetReply(big)
	answer.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeTXT, Class: 1, Ttl: 60}, Txt: []string{strings.Repeat("x", 200), strings.Repeat("y", 255), strings.Repeat("y", 255)}}}
	f.Add(packed(f, big), packed(f, answer))
	f.Add(packed(f, big), []byte{0, 1, 2})
	zones := shop()
	f.Fuzz(func(t *testing.T, packet, said []byte) {
		query := new(dns.Msg)
		if query.Unpack(packet) != nil {
			return // the server's own answer is FORMERR
		}
		forwarder := NewForwarder(ForwarderConfig{Log: slog.New(slog.DiscardHandler), Dial: func(string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				conn := &dns.Conn{Conn: far}
				asked, err := conn.ReadMsg()
				if err != nil {
					return
				}
				if len(said) > 2 {
					said = append([]byte{byte(asked.Id >> 8), byte(asked.Id)}, said[2:]...)
				}
				_, _ = conn.Write(said)
			}()
			return near, nil
		}})
		r := &Resolver{log: slog.New(slog.DiscardHandler), forward: forwarder}
		r.Set(&Scope{Zones: zones, Stack: "a", Upstreams: []netip.AddrPort{{}}})
		reply := r.respond(query, true)
		if reply.Id != query.Id || !reply.Response {
			t.Fatalf("%v is answered by %v", query, reply)
		}
		if short, ok := r.scope.Load().answerPacket(packet, nil); ok {
			same := new(dns.Msg)
			if err := same.Unpack(short); err != nil || told(same) != told(reply) || same.MsgHdr != reply.MsgHdr {
				t.Fatalf("%v\nis answered in short by %v (%v)\nand at length by %v", query, same, err, reply)
			}
		}
		size := dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		if b, err := reply.Pack(); err == nil && len(b) > size && !reply.Truncated {
			t.Fatalf("%d bytes in an answer of at most %d", len(b), size)
		} else if err != nil && r.scope.Load().answer(query) != nil {
			t.Fatalf("an answer of our own cannot be sent: %v\n%v", err, reply)
		}
	})
}
