// Package dns answers the containers' name queries: names of services, tasks and containers from the records it is given, the
// rest by asking the host's own resolvers. It reads what others tell it and writes nothing but answers.
package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// ttl is Docker's. Addresses of services do not change while they live.
	ttl = 600
	// patience is how long one upstream resolver is waited for.
	patience = 2 * time.Second
	// maxForwarded bounds how many queries of one sandbox wait for upstream resolvers at a time.
	maxForwarded = 1024
	// ResolverAddr is where containers find their resolver.
	ResolverAddr = "127.0.0.11"
)

// Records is what a sandbox may know. It is not changed once it is in use.
type Records struct {
	// Zones are asked in turn: the first that knows a name decides.
	Zones []*Zone
	// Upstreams is asked, in order, for what is in none of the above.
	Upstreams []netip.AddrPort
}

// Config is what a Resolver needs.
type Config struct {
	Log *slog.Logger
	// Enter runs a function inside the sandbox's namespace.
	Enter func(func() error) error
	// Dial connects to an upstream resolver from where that is reachable.
	Dial func(network, addr string) (net.Conn, error)
}

// Resolver answers in one sandbox.
type Resolver struct {
	log     *slog.Logger
	dial    func(network, addr string) (net.Conn, error)
	records atomic.Pointer[Records]
	slots   chan struct{}
	udp     *dns.Server
	tcp     *dns.Server
	done    sync.WaitGroup
}

// Open starts a Resolver on two ports of 127.0.0.11 in the sandbox; it answers until Close.
func Open(c Config) (*Resolver, error) {
	r := &Resolver{log: c.Log, dial: c.Dial, slots: make(chan struct{}, maxForwarded)}
	r.records.Store(&Records{})
	var packets net.PacketConn
	var listener net.Listener
	err := c.Enter(func() (err error) {
		if packets, err = net.ListenPacket("udp4", ResolverAddr+":0"); err != nil {
			return err
		}
		if listener, err = net.Listen("tcp4", ResolverAddr+":0"); err != nil {
			return errors.Join(err, packets.Close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open resolver: %w", err)
	}
	r.udp = &dns.Server{PacketConn: packets, Handler: r}
	r.tcp = &dns.Server{Listener: listener, Handler: r}
	for _, s := range []*dns.Server{r.udp, r.tcp} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		r.done.Go(func() {
			if err := s.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
				r.log.Warn("resolver stopped", "err", err)
			}
		})
		<-started
	}
	return r, nil
}

// Ports is where the resolver listens, by UDP and by TCP.
func (r *Resolver) Ports() (udp, tcp uint16) {
	return r.udp.PacketConn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), r.tcp.Listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Set replaces all records.
func (r *Resolver) Set(records *Records) { r.records.Store(records) }

// Close stops answering and lets go of the sandbox.
func (r *Resolver) Close() error {
	err := errors.Join(r.udp.Shutdown(), r.tcp.Shutdown())
	r.done.Wait()
	return err
}

// ServeDNS answers one query.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeFormatError))
		return
	}
	reply := r.answer(r.records.Load(), query)
	if reply == nil {
		_, isTCP := w.RemoteAddr().(*net.TCPAddr)
		reply = r.forward(r.records.Load(), query, isTCP)
	}
	size := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
	}
	if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP {
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply) // the container is free not to wait for it
}

// answer is nil for what the records do not cover.
func (r *Resolver) answer(records *Records, query *dns.Msg) *dns.Msg {
	q := query.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
	if q.Qtype == dns.TypePTR {
		addr, ok := reverseAddr(name)
		host := records.nameOf(addr)
		if !ok || host == "" {
			return nil
		}
		reply.Answer = []dns.RR{&dns.PTR{Hdr: head, Ptr: dns.Fqdn(host)}}
		return reply
	}
	addrs, ok := records.addrsOf(name)
	switch {
	case !ok && strings.HasPrefix(name, "tasks."):
		return reply.SetRcode(query, dns.RcodeNameError) // no such service here, and nobody else's business
	case !ok:
		return nil
	}
	start := 0
	if len(addrs) > 1 {
		start = rand.IntN(len(addrs))
	}
	for i := range addrs {
		a := addrs[(start+i)%len(addrs)]
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			reply.Answer = append(reply.Answer, &dns.A{Hdr: head, A: a.AsSlice()})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	return reply
}

func (r *Resolver) forward(records *Records, query *dns.Msg, tcp bool) *dns.Msg {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	}
	network := "udp"
	if tcp {
		network = "tcp"
	}
	for _, up := range records.Upstreams {
		reply, err := r.exchange(network, up.String(), query)
		if err == nil {
			return reply
		}
		r.log.Debug("upstream resolver failed", "upstream", up, "err", err)
	}
	return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
}

func (r *Resolver) exchange(network, addr string, query *dns.Msg) (*dns.Msg, error) {
	conn, err := r.dial(network, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := &dns.Client{Net: network, Timeout: patience, UDPSize: dns.DefaultMsgSize}
	reply, _, err := client.ExchangeWithConn(query, &dns.Conn{Conn: conn, UDPSize: dns.DefaultMsgSize})
	return reply, err
}

// reverseAddr reads "4.3.2.1.in-addr.arpa".
func reverseAddr(name string) (netip.Addr, bool) {
	rest, ok := strings.CutSuffix(name, ".in-addr.arpa")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
	return a, err == nil
}
