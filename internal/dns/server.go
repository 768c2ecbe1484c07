// Package dns answers the DNS queries of containers: for names of services, tasks and containers from zones that room network fills, for all others
// by asking upstream resolvers. It reads only what it is given and writes nothing but answers.
package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

const (
	// ttl is the TTL of the cluster's own names, in seconds. It is short because a task drains only for a few seconds: a client that kept
	// its address for longer would find nobody there. Asking again costs little, for the resolver is on the container's loopback.
	ttl = 1
	// ResolverAddr is the address where containers find their resolver, the same as Docker's.
	ResolverAddr = "127.0.0.11"
)

// Config is what a Resolver needs.
type Config struct {
	Log *slog.Logger
	// Enter runs a function inside the sandbox's network namespace.
	Enter func(func() error) error
	// Forwarder is asked for what the resolver's scope does not have.
	Forwarder *Forwarder
}

// Resolver answers the queries of one sandbox.
type Resolver struct {
	log     *slog.Logger
	forward *Forwarder
	scope   atomic.Pointer[Scope]
	udp     *net.UDPConn
	tcp     *dns.Server
	done    sync.WaitGroup
}

// Open starts a Resolver on random ports of ResolverAddr in the sandbox. It answers until Close; before the first Set, it has no zones and no
// upstream resolvers.
func Open(c Config) (*Resolver, error) {
	r := &Resolver{log: c.Log, forward: c.Forwarder}
	r.scope.Store(&Scope{})
	var listener net.Listener
	err := c.Enter(func() (err error) {
		if r.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ResolverAddr), 0))); err != nil {
			return err
		}
		if listener, err = net.Listen("tcp4", ResolverAddr+":0"); err != nil {
			return errors.Join(err, r.udp.Close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open resolver: %w", err)
	}
	r.done.Go(func() { r.servePackets(r.udp) })
	started := make(chan struct{})
	r.tcp = &dns.Server{Listener: listener, Handler: r, NotifyStartedFunc: func() { close(started) }}
	r.done.Go(func() {
		if err := r.tcp.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
			r.log.Warn("resolver of a container has stopped: until the container is restarted it resolves no names by TCP", "err", err)
		}
	})
	<-started
	return r, nil
}

// Ports is the ports where the resolver listens by UDP and by TCP.
func (r *Resolver) Ports() (udp, tcp uint16) {
	return r.udp.LocalAddr().(*net.UDPAddr).AddrPort().Port(), r.tcp.Listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Set replaces the zones and upstream resolvers. The scope must not be changed afterwards.
func (r *Resolver) Set(scope *Scope) { r.scope.Store(scope) }

// Close stops the resolver and waits for the queries under way.
func (r *Resolver) Close() error {
	err := errors.Join(r.udp.Close(), r.tcp.Shutdown())
	r.done.Wait()
	return err
}

// ServeDNS answers one query by TCP.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	_ = w.WriteMsg(r.respond(query, false)) // a client that no longer listens misses nothing
}

// respond answers a query, with a reply that is truncated to what the protocol and the client allow.
func (r *Resolver) respond(query *dns.Msg, udp bool) *dns.Msg {
	reply, size := r.reply(query), dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
	}
	if opt := query.IsEdns0(); opt != nil {
		reply.SetEdns0(udpSize, opt.Do())
		if udp {
			size = max(size, int(opt.UDPSize()))
		}
	}
	reply.Truncate(size)
	return reply
}

// reply answers a query from the zones or, if they cannot, from upstream.
func (r *Resolver) reply(query *dns.Msg) *dns.Msg {
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery {
		return new(dns.Msg).SetRcode(query, dns.RcodeFormatError)
	}
	switch q := query.Question[0]; {
	case q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY:
		return new(dns.Msg).SetRcode(query, dns.RcodeRefused)
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		return new(dns.Msg).SetRcode(query, dns.RcodeNotImplemented)
	}
	scope := r.scope.Load()
	if reply := scope.answer(query); reply != nil {
		return reply
	}
	return r.forward.forward(query, scope.Upstreams)
}
