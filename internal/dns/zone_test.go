package dns

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// shop is two networks, with two stacks that have a service of the same alias on the first.
func shop() []*Zone {
	web := []shoal.Port{{Name: "http", Protocol: shoal.TCP, Target: 80, Published: 8080}, {Protocol: shoal.UDP, Target: 53, Published: 53}}
	front, back := NewZone(), NewZone()
	front.Describe("front", []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:1::/64")})
	front.Update(map[string]Entry{
		"a_web":  {Names: []string{"a_web", "web"}, Addrs: addrs("10.0.1.2", "fd00:1::2"), Stack: "a", Ports: web},
		"b_web":  {Names: []string{"b_web", "web"}, Addrs: addrs("10.0.1.3"), Stack: "b", Ports: web},
		"a_web1": {Names: []string{"a_web.1.xyz", "0123456789ab", "tasks.a_web", "1.a_web", "1.web"}, Addrs: addrs("10.0.1.10", "fd00:1::10"), Reverse: true, Stack: "a", Ports: web},
		"a_web2": {Names: []string{"a_web.2.xyz", "tasks.a_web", "2.a_web", "2.web"}, Addrs: addrs("10.0.1.11"), Reverse: true, Stack: "a", Ports: web},
	}, nil)
	back.Describe("Back", nil)
	back.Update(map[string]Entry{
		"web":   {Names: []string{"WEB"}, Addrs: addrs("10.0.2.2")},
		"a_db":  {Names: []string{"a_db", "db"}, Addrs: addrs("10.0.2.3"), Stack: "a"},
		"other": {Names: []string{"front"}, Addrs: addrs("10.0.2.9")},
	}, nil)
	return []*Zone{front, back}
}

// told is a reply in one line: an error's name, or the records' data.
func told(reply *dns.Msg) string {
	switch {
	case reply == nil:
		return "forwarded"
	case reply.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[reply.Rcode]
	}
	var out []string
	for _, rr := range append(slices.Clone(reply.Answer), reply.Extra...) {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return strings.Join(out, " | ")
}

func TestAnswers(t *testing.T) {
	zones := shop()
	none, a, b, reversed := &Scope{Zones: zones}, &Scope{Zones: zones, Stack: "a"}, &Scope{Zones: zones, Stack: "b"}, &Scope{Zones: []*Zone{zones[1], zones[0]}}
	for _, c := range []struct {
		scope *Scope
		name  string
		kind  uint16
		want  string
	}{
		{a, "A_Web.", dns.TypeA, "10.0.1.2"},
		{a, "web.", dns.TypeA, "10.0.1.2"},
		{b, "web.", dns.TypeA, "10.0.1.3"},
		{none, "web.", dns.TypeA, "10.0.1.2 | 10.0.1.3"},
		{reversed, "web.", dns.TypeA, "10.0.2.2"},
		{&Scope{Zones: reversed.Zones, Stack: "a"}, "web.", dns.TypeA, "10.0.1.2"},
		{b, "db.", dns.TypeA, "10.0.2.3"},
		{a, "web.", dns.TypeAAAA, "fd00:1::2"},
		{b, "web.", dns.TypeAAAA, ""},
		{a, "web.", dns.TypeANY, "10.0.1.2 | fd00:1::2"},
		{a, "web.", dns.TypeMX, ""},
		{none, "tasks.a_web.", dns.TypeA, "10.0.1.10 | 10.0.1.11"},
		{none, "1.a_web.", dns.TypeA, "10.0.1.10"},
		{b, "2.web.", dns.TypeA, "10.0.1.11"},
		{none, "0123456789ab.", dns.TypeA, "10.0.1.10"},
		{none, "web.back.", dns.TypeA, "10.0.2.2"},
		{none, "tasks.a_web.front.", dns.TypeA, "10.0.1.10 | 10.0.1.11"},
		// what never leaves the cluster
		{none, "3.a_web.", dns.TypeA, "NXDOMAIN"},
		{none, "tasks.nosuch.", dns.TypeA, "NXDOMAIN"},
		{none, "web.example.front.", dns.TypeA, "NXDOMAIN"},
		{none, "foo.back.", dns.TypeA, "NXDOMAIN"},
		{none, "db.front.", dns.TypeA, "NXDOMAIN"},
		{none, "front.", dns.TypeA, "10.0.2.9"},
		{none, "77.1.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		// what does
		{none, "example.org.", dns.TypeA, "forwarded"},
		{none, "tasks.example.org.", dns.TypeA, "forwarded"},
		{none, "3.nosuch.", dns.TypeA, "forwarded"},
		{none, "nosuch.", dns.TypeA, "forwarded"},
		{none, "_http._tcp.example.org.", dns.TypeSRV, "forwarded"},
		{none, "1.2.0.192.in-addr.arpa.", dns.TypePTR, "forwarded"},
		{none, ".", dns.TypeNS, "forwarded"},
		// addresses
		{none, "10.1.0.10.in-addr.arpa.", dns.TypePTR, "a_web.1.xyz.front."},
		{none, "0.1.0.0." + strings.Repeat("0.", 20) + "1.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "a_web.1.xyz.front."},
		{none, "0.2.0.0." + strings.Repeat("0.", 20) + "1.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NXDOMAIN"},
		// ports
		{a, "_http._tcp.web.", dns.TypeSRV, "0 1 80 a_web. | 10.0.1.2 | fd00:1::2"},
		{a, "_80._tcp.web.", dns.TypeSRV, "0 1 80 a_web. | 10.0.1.2 | fd00:1::2"},
		{a, "_8080._tcp.web.", dns.TypeSRV, "0 1 80 a_web. | 10.0.1.2 | fd00:1::2"},
		{b, "_udp.web.", dns.TypeSRV, "0 1 53 b_web. | 10.0.1.3"},
		{none, "_tcp.tasks.a_web.", dns.TypeSRV, "0 1 80 a_web.1.xyz. | 0 1 80 a_web.2.xyz. | 10.0.1.10 | 10.0.1.11 | fd00:1::10"},
		{a, "_81._tcp.web.", dns.TypeSRV, ""},
		{a, "_http._tcp.web.", dns.TypeA, ""},
		{a, "_http._tcp.tasks.nosuch.", dns.TypeSRV, "NXDOMAIN"},
	} {
		if got := told(c.scope.answer(new(dns.Msg).SetQuestion(c.name, c.kind))); got != c.want {
			t.Errorf("%s %s in stack %q: %q, want %q", c.name, dns.TypeToString[c.kind], c.scope.Stack, got, c.want)
		}
	}
}

// Changing entries one by one leads to the same as setting them all.
func TestUpdatesAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{"web", "Web", "db", "tasks.web", "1.web"})
		entry := rapid.Custom(func(t *rapid.T) Entry {
			return Entry{Names: rapid.SliceOfN(name, 0, 3).Draw(t, "names"), Reverse: rapid.Bool().Draw(t, "reverse"),
				Addrs: rapid.SliceOfNDistinct(rapid.SampledFrom(addrs("10.0.1.1", "10.0.1.2", "fd00::1")), 0, 2, rapid.ID).Draw(t, "addrs")}
		})
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		zone, model := NewZone(), map[string]Entry{}
		for range 20 {
			put, del := rapid.MapOfN(key, entry, 0, 2).Draw(rt, "put"), rapid.SliceOfN(key, 0, 2).Draw(rt, "del")
			zone.Update(put, del)
			for _, k := range del {
				delete(model, k)
			}
			maps.Copy(model, put)
		}
		whole := NewZone()
		whole.Update(model, nil)
		if got, want := dump(zone), dump(whole); got != want {
			rt.Fatalf("%s\nwant %s", got, want)
		}
	})
}

// dump is all that a zone knows, in one order.
func dump(z *Zone) string {
	var out []string
	for name, entries := range z.names {
		for _, e := range entries {
			out = append(out, fmt.Sprint(name, " ", e.Addrs, e.Names))
		}
	}
	for a, owners := range z.owners {
		for _, e := range owners {
			out = append(out, fmt.Sprint(a, " ", e.Names))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
