// Package dns answers the containers' DNS queries: names of services, tasks and containers from the zones it is given, all others
// by forwarding them to upstream resolvers. It reads its zones and the network, and writes nothing but answers.
package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/shoal-dev/shoal/internal/fault"
)

const (
	// ttl, in seconds, of the cluster's own names. The resolver is in the container's own network namespace, so asking again costs
	// little, while a client that keeps a task's address for longer than the task drains connects to nobody.
	ttl = 1
	// ResolverAddr is the IP address in each sandbox at which containers find their resolver, as with Docker.
	ResolverAddr = "127.0.0.11"
)

// Config is what a Resolver needs; every field is required.
type Config struct {
	Log *slog.Logger
	// Enter runs a function inside the sandbox's namespace.
	Enter func(func() error) error
	// Forwarder is asked for what the resolver's scope does not have.
	Forwarder *Forwarder
}

// Resolver answers in one sandbox.
type Resolver struct {
	log     *slog.Logger
	forward *Forwarder
	scope   atomic.Pointer[Scope]
	udp     *net.UDPConn
	tcp     *dns.Server
	done    sync.WaitGroup
	faulty  atomic.Bool // a query has met a fault of ours
}

// Open starts a Resolver on two ports of 127.0.0.11 in the sandbox; it answers until Close.
func Open(c Config) (*Resolver, error) {
	r := &Resolver{log: c.Log, forward: c.Forwarder}
	r.scope.Store(&Scope{})
	var listener net.Listener
	err := c.Enter(func() (err error) {
		if r.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ResolverAddr)}); err != nil {
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

// Ports is where the resolver listens, by UDP and by TCP.
func (r *Resolver) Ports() (udp, tcp uint16) {
	return r.udp.LocalAddr().(*net.UDPAddr).AddrPort().Port(), r.tcp.Listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Set replaces the zones and upstream resolvers that the sandbox's queries are answered from.
func (r *Resolver) Set(scope *Scope) { r.scope.Store(scope) }

// Close stops answering and closes the sockets in the sandbox.
func (r *Resolver) Close() error {
	err := errors.Join(r.udp.Close(), r.tcp.Shutdown())
	r.done.Wait()
	return err
}

// ServeDNS answers one query by TCP.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	r.contain(func() { _ = w.WriteMsg(r.respond(query, false)) }) // the container is free not to wait for it
}

// contain answers one query. What meets a fault of ours is not answered. A container that has found such a query may ask it for ever: only the first of
// a sandbox is in the log.
func (r *Resolver) contain(answer func()) {
	log := r.log
	if r.faulty.Load() {
		log = slog.New(slog.DiscardHandler)
	}
	if !fault.Do(log, "answer to a name query", answer) {
		r.faulty.Store(true)
	}
}

// respond answers a query, truncated to what the client can receive by UDP.
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
