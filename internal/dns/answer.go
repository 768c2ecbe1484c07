package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// answer answers a query from the scope's zones; nil means that the query is to be forwarded to upstream resolvers.
func (s *Scope) answer(query *dns.Msg) *dns.Msg {
	q := query.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	if a, ok := reverseAddr(name); ok {
		host, authoritative := s.reverse(a)
		switch {
		case !authoritative:
			return nil
		case host == "":
			reply.Rcode = dns.RcodeNameError
		case asks(q, dns.TypePTR):
			reply.Answer = []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: dns.Fqdn(host)}}
		}
		return reply
	}
	port, host := splitService(name)
	found, authoritative := s.find(host)
	switch {
	case !authoritative:
		return nil
	case len(found) == 0:
		reply.Rcode = dns.RcodeNameError
	case port != nil:
		if asks(q, dns.TypeSRV) {
			port.answer(reply, q.Name, found)
		}
	default:
		reply.Answer = addresses(q.Name, found, asks(q, dns.TypeA), asks(q, dns.TypeAAAA))
	}
	return reply
}

func asks(q dns.Question, kind uint16) bool { return q.Qtype == kind || q.Qtype == dns.TypeANY }

// header is the header of a record about one of the cluster's names.
func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// addrsOf is the addresses of all entries without duplicates, in random order: clients that use the first one are spread.
func addrsOf(found []*Entry, want4, want6 bool) []netip.Addr {
	var addrs []netip.Addr
	for _, e := range found {
		for _, a := range e.Addrs {
			if a.Is4() && want4 || a.Is6() && want6 {
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) > 1 {
		slices.SortFunc(addrs, netip.Addr.Compare)
		addrs = slices.Compact(addrs)
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	}
	return addrs
}

// addresses is the entries' addresses as records.
func addresses(name string, found []*Entry, want4, want6 bool) []dns.RR {
	addrs := addrsOf(found, want4, want6)
	out := make([]dns.RR, 0, len(addrs))
	for _, a := range addrs {
		if a.Is4() {
			out = append(out, &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()})
		} else {
			out = append(out, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return out
}

// service is the "_http._tcp" of an SRV name: a port by its name or number, or all ports of a protocol.
type service struct {
	port     string // empty for all
	protocol shoal.Protocol
}

// splitService splits "_http._tcp.web" into the service and the host name. The service is nil if the name does not begin with "_".
func splitService(name string) (*service, string) {
	first, rest, _ := strings.Cut(name, ".")
	if !strings.HasPrefix(first, "_") {
		return nil, name
	}
	if protocol, host, ok := strings.Cut(rest, "."); ok && strings.HasPrefix(protocol, "_") {
		return &service{first[1:], shoal.Protocol(protocol[1:])}, host
	}
	return &service{"", shoal.Protocol(first[1:])}, rest
}

// matches tells whether the service means a port.
func (s *service) matches(p shoal.Port) bool {
	return p.Protocol == s.protocol && (s.port == "" || s.port == strings.ToLower(p.Name) || s.port == decimal(p.Target) || s.port == decimal(p.Published))
}

// answer adds an SRV record for each matching port of the entries, and the addresses that they point to.
func (s *service) answer(reply *dns.Msg, name string, found []*Entry) {
	for _, e := range found {
		target, had := dns.Fqdn(e.Names[0]), len(reply.Answer)
		for _, p := range e.Ports {
			if s.matches(p) {
				reply.Answer = append(reply.Answer, &dns.SRV{Hdr: header(name, dns.TypeSRV), Weight: 1, Port: p.Target, Target: target})
			}
		}
		if len(reply.Answer) > had {
			reply.Extra = append(reply.Extra, addresses(target, []*Entry{e}, true, true)...)
		}
	}
}
