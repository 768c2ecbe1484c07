package dns

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// upstreamTimeout is how long an upstream resolver may take to answer.
	upstreamTimeout = 2 * time.Second
	// maxUpstreamSockets limits the sockets to upstream resolvers that are open at a time. Further queries wait.
	maxUpstreamSockets = 2048
	// maxCachedReplies limits the cache.
	maxCachedReplies = 10000
	// udpSize is the size, in bytes, up to which an answer by UDP is not fragmented on any common network (DNS Flag Day 2020).
	udpSize = 1232
)

// ForwarderConfig is what a Forwarder needs.
type ForwarderConfig struct {
	Log *slog.Logger
	// Dial connects to an upstream resolver ("udp" or "tcp", "IP:port"), from a namespace that can reach it.
	Dial func(network, addr string) (net.Conn, error)
}

// Forwarder asks upstream resolvers and caches their replies. Clients that ask the same question at the same time share one query. All
// resolvers of a node share one Forwarder.
type Forwarder struct {
	log    *slog.Logger
	dial   func(network, addr string) (net.Conn, error)
	cache  *cache
	flight singleflight.Group
	slots  chan struct{} // holds an element for each socket in use
}

// NewForwarder makes a Forwarder with an empty cache.
func NewForwarder(c ForwarderConfig) *Forwarder {
	return &Forwarder{log: c.Log, dial: c.Dial, cache: newCache(maxCachedReplies), slots: make(chan struct{}, maxUpstreamSockets)}
}

// forward answers a query with a reply from the cache or from the upstream resolvers. If none of them replies, the answer is SERVFAIL.
func (f *Forwarder) forward(query *dns.Msg, upstreams []netip.AddrPort) *dns.Msg {
	q := question{upstreams: fmt.Sprint(upstreams), name: strings.ToLower(query.Question[0].Name), kind: query.Question[0].Qtype, checkingOff: query.CheckingDisabled}
	if opt := query.IsEdns0(); opt != nil {
		q.dnssec = opt.Do()
	}
	reply := f.cache.get(q, time.Now())
	if reply == nil {
		shared, err, _ := f.flight.Do(fmt.Sprint(q), func() (any, error) {
			if reply := f.cache.get(q, time.Now()); reply != nil {
				return reply, nil // another query has put it there meanwhile
			}
			return f.ask(q, upstreams)
		})
		if err != nil {
			f.log.Debug("name could not be resolved; the client gets SERVFAIL", "name", q.name, "err", err)
			return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
		}
		reply = shared.(*dns.Msg).Copy()
	}
	reply.Id, reply.Question, reply.RecursionDesired = query.Id, query.Question, query.RecursionDesired
	return reply
}

// ask asks the upstream resolvers in order, until one says that the name exists or does not. Otherwise the result is the last reply, such as
// SERVFAIL, and an error only if there was no reply at all. The reply has no OPT record, which describes the connection to the upstream
// resolver and not the answer.
func (f *Forwarder) ask(q question, upstreams []netip.AddrPort) (*dns.Msg, error) {
	f.slots <- struct{}{}
	defer func() { <-f.slots }()
	query := new(dns.Msg).SetQuestion(q.name, q.kind)
	query.CheckingDisabled = q.checkingOff
	withoutEDNS := query.Copy()
	query.SetEdns0(udpSize, q.dnssec)
	var last *dns.Msg
	err := fmt.Errorf("no upstream resolver")
	for i, up := range slices.Concat(upstreams, upstreams) { // twice, because a packet may be lost
		if i == len(upstreams) && last != nil {
			break // at least one has replied, so asking all again would bring nothing better
		}
		reply, failed := f.exchange("udp", up.String(), query)
		if failed == nil && reply.Rcode == dns.RcodeFormatError { // it does not know EDNS
			reply, failed = f.exchange("udp", up.String(), withoutEDNS)
		}
		if failed == nil && reply.Truncated {
			reply, failed = f.exchange("tcp", up.String(), query)
		}
		if failed != nil {
			err = fmt.Errorf("ask %s: %w", up, failed)
			continue
		}
		last = reply
		if reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError {
			break
		}
	}
	if last == nil {
		return nil, err
	}
	for i, rr := range last.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			last.Extra = append(last.Extra[:i:i], last.Extra[i+1:]...)
			break
		}
	}
	f.cache.put(q, last, time.Now())
	return last, nil
}

// exchange sends a query to one upstream resolver and returns its reply.
func (f *Forwarder) exchange(network, addr string, query *dns.Msg) (*dns.Msg, error) {
	conn, err := f.dial(network, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	query.Id = dns.Id()
	client := &dns.Client{Net: network, Timeout: upstreamTimeout, UDPSize: udpSize}
	reply, _, err := client.ExchangeWithConn(query, &dns.Conn{Conn: conn, UDPSize: udpSize})
	if err == nil && !answers(reply, query) {
		return nil, fmt.Errorf("the reply does not belong to the query")
	}
	return reply, err
}

// answers tells whether a message is a reply, and to this query. Some servers leave the question out when they refuse it.
func answers(reply, query *dns.Msg) bool {
	if !reply.Response || reply.Opcode != query.Opcode {
		return false
	}
	if len(reply.Question) == 0 {
		return reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError
	}
	got, want := reply.Question[0], query.Question[0]
	return len(reply.Question) == 1 && strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}
