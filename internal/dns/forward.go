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
	// upstreamTimeout is how long one upstream resolver is waited for.
	upstreamTimeout = 2 * time.Second
	// maxConcurrent bounds the queries, and so the sockets, to upstream resolvers at a time. Further queries wait.
	maxConcurrent = 2048
	// cacheSize bounds the cache, in replies.
	cacheSize = 10000
	// udpSize is the largest packet, in bytes, that no network in use fragments (DNS Flag Day 2020).
	udpSize = 1232
)

// ForwarderConfig is what a Forwarder needs; every field is required.
type ForwarderConfig struct {
	Log *slog.Logger
	// Dial connects to an upstream resolver ("IP:port"), in the network namespace from which it is reachable.
	Dial func(network, addr string) (net.Conn, error)
}

// Forwarder forwards queries to upstream resolvers and caches the replies; identical queries at the same time are sent once. All
// sandboxes of a node share one.
type Forwarder struct {
	log    *slog.Logger
	dial   func(network, addr string) (net.Conn, error)
	cache  *cache
	flight singleflight.Group
	slots  chan struct{}
}

// NewForwarder makes a Forwarder with an empty cache.
func NewForwarder(c ForwarderConfig) *Forwarder {
	return &Forwarder{log: c.Log, dial: c.Dial, cache: newCache(cacheSize), slots: make(chan struct{}, maxConcurrent)}
}

// forward answers a query with the reply of the first upstream resolver that knows the name or denies it, or from the cache.
func (f *Forwarder) forward(query *dns.Msg, upstreams []netip.AddrPort) *dns.Msg {
	q := question{upstreams: fmt.Sprint(upstreams), name: strings.ToLower(query.Question[0].Name), kind: query.Question[0].Qtype, checked: query.CheckingDisabled}
	if opt := query.IsEdns0(); opt != nil {
		q.dnssec = opt.Do()
	}
	reply := f.cache.get(q, time.Now())
	if reply == nil {
		shared, err, _ := f.flight.Do(fmt.Sprint(q), func() (any, error) {
			if reply := f.cache.get(q, time.Now()); reply != nil {
				return reply, nil // another query for it has just ended
			}
			return f.ask(q, upstreams)
		})
		if err != nil {
			f.log.Debug("name could not be resolved", "name", q.name, "err", err)
			return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
		}
		reply = shared.(*dns.Msg).Copy()
	}
	reply.Id, reply.Question, reply.RecursionDesired = query.Id, query.Question, query.RecursionDesired
	return reply
}

// ask queries the upstream resolvers in order, twice if a packet may have been lost. An error reply (SERVFAIL and the like) is passed
// on only if no other resolver has a better one. The OPT record is taken out of the reply: it is valid for one hop only (RFC 6891).
func (f *Forwarder) ask(q question, upstreams []netip.AddrPort) (*dns.Msg, error) {
	f.slots <- struct{}{}
	defer func() { <-f.slots }()
	query := new(dns.Msg).SetQuestion(q.name, q.kind)
	query.CheckingDisabled = q.checked
	plain := query.Copy()
	query.SetEdns0(udpSize, q.dnssec)
	var last *dns.Msg
	err := fmt.Errorf("no upstream resolver")
	for i, up := range slices.Concat(upstreams, upstreams) { // a packet may get lost
		if i == len(upstreams) && last != nil {
			break // a resolver has replied, if only with an error: no second round
		}
		reply, failed := f.exchange("udp", up.String(), query)
		if failed == nil && reply.Rcode == dns.RcodeFormatError { // the resolver does not know EDNS
			reply, failed = f.exchange("udp", up.String(), plain)
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

// answers tells whether a message is a reply to this query. Some servers leave the question out of error replies.
func answers(reply, query *dns.Msg) bool {
	if !reply.Response || reply.Opcode != query.Opcode {
		return false
	}
	if len(reply.Question) == 0 {
		return reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError
	}
	is, was := reply.Question[0], query.Question[0]
	return len(reply.Question) == 1 && strings.EqualFold(is.Name, was.Name) && is.Qtype == was.Qtype && is.Qclass == was.Qclass
}
