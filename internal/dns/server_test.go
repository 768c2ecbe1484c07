package dns

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

func TestAnswers(t *testing.T) {
	upstream, err := Open(Config{Log: slog.New(slog.DiscardHandler), Enter: func(f func() error) error { return f() }})
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	a1, a2, out := netip.MustParseAddr("10.0.1.3"), netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("192.0.2.1")
	zone := func(names map[string][]netip.Addr, reverse map[netip.Addr]string) *Zone {
		z := NewZone()
		z.Update(names, reverse)
		return z
	}
	upstream.Set(&Records{Zones: []*Zone{zone(map[string][]netip.Addr{"example.org": {out}}, nil)}})
	r, err := Open(Config{Log: slog.New(slog.DiscardHandler), Enter: func(f func() error) error { return f() }, Dial: net.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	port, _ := upstream.Ports()
	first := zone(map[string][]netip.Addr{"web": {a1}, "gone": {a2}, "tasks.web": {a1, a2}}, map[netip.Addr]string{a1: "web.1.x.net"})
	first.Update(map[string][]netip.Addr{"gone": nil, "late": {a1}}, nil)
	second := zone(map[string][]netip.Addr{"web": {a1, a2}, "second": {a2}}, nil)
	r.Set(&Records{Zones: []*Zone{first, second},
		Upstreams: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ResolverAddr), port)}})
	udp, tcp := r.Ports()
	for _, c := range []struct {
		name    string
		kind    uint16
		rcode   int
		answers int
	}{
		{"WEB.", dns.TypeA, dns.RcodeSuccess, 1},
		{"web.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"second.", dns.TypeA, dns.RcodeSuccess, 1},
		{"late.", dns.TypeA, dns.RcodeSuccess, 1},
		{"gone.", dns.TypeA, dns.RcodeServerFailure, 0},
		{"tasks.web.", dns.TypeA, dns.RcodeSuccess, 2},
		{"tasks.other.", dns.TypeA, dns.RcodeNameError, 0},
		{"example.org.", dns.TypeA, dns.RcodeSuccess, 1},
		{"nowhere.example.", dns.TypeA, dns.RcodeServerFailure, 0},
		{"3.1.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, 1},
	} {
		for network, p := range map[string]uint16{"udp": udp, "tcp": tcp} {
			if c.name == "example.org." && network == "tcp" {
				continue // the upstream's TCP port is another
			}
			client := &dns.Client{Net: network}
			reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(c.name, c.kind), netip.AddrPortFrom(netip.MustParseAddr(ResolverAddr), p).String())
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if reply.Rcode != c.rcode || len(reply.Answer) != c.answers {
				t.Errorf("%s %s by %s: rcode %d with %d answers, want %d with %d", c.name, dns.TypeToString[c.kind], network, reply.Rcode, len(reply.Answer), c.rcode, c.answers)
			}
		}
	}
}
