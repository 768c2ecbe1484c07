package dns

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// upstream is a resolver outside of the cluster that answers as the test says.
func upstream(t *testing.T, answer dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	listener, err := net.Listen("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: answer}, {Listener: listener, Handler: answer}} {
		done := make(chan error, 1)
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-done //nolint:errcheck // ended by Shutdown
		})
	}
	return addr
}

func newForwarder() *Forwarder {
	return NewForwarder(ForwarderConfig{Log: slog.New(slog.DiscardHandler), Dial: net.Dial})
}

func open(t *testing.T, scope *Scope) (udp, tcp string) {
	t.Helper()
	r, err := Open(Config{Log: slog.New(slog.DiscardHandler), Enter: func(f func() error) error { return f() }, Forwarder: newForwarder()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Set(scope)
	u, c := r.Ports()
	return fmt.Sprintf("%s:%d", ResolverAddr, u), fmt.Sprintf("%s:%d", ResolverAddr, c)
}

func records(t *testing.T, texts ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func ask(t *testing.T, network, addr string, query *dns.Msg) *dns.Msg {
	t.Helper()
	reply, _, err := (&dns.Client{Net: network, UDPSize: dns.MaxMsgSize}).Exchange(query, addr)
	if err != nil {
		t.Fatalf("%s by %s: %v", query.Question[0].Name, network, err)
	}
	return reply
}

func TestBothProtocolsAndSizes(t *testing.T) {
	zone := NewZone()
	many := Entry{Names: []string{"many"}}
	for i := range 100 {
		many.Addrs = append(many.Addrs, netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}))
	}
	zone.Update(map[string]Entry{"many": many}, nil)
	udp, tcp := open(t, &Scope{Zones: []*Zone{zone}})
	for _, c := range []struct {
		network, addr string
		size          uint16 // of EDNS0; 0 without
		answers       int    // at least
		truncated     bool
	}{{"udp", udp, 0, 1, true}, {"udp", udp, 1232, 20, true}, {"udp", udp, 4096, 100, false}, {"tcp", tcp, 0, 100, false}} {
		query := new(dns.Msg).SetQuestion("many.", dns.TypeA)
		if c.size > 0 {
			query.SetEdns0(c.size, false)
		}
		reply := ask(t, c.network, c.addr, query)
		if len(reply.Answer) < c.answers || reply.Truncated != c.truncated || (reply.IsEdns0() != nil) != (c.size > 0) {
			t.Errorf("%s with %d: %d answers, truncated %v", c.network, c.size, len(reply.Answer), reply.Truncated)
		}
	}
	chaos := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if reply := ask(t, "udp", udp, chaos); reply.Rcode != dns.RcodeRefused {
		t.Error("chaos", reply.Rcode)
	}
	if reply := ask(t, "tcp", tcp, new(dns.Msg).SetAxfr("net.")); reply.Rcode != dns.RcodeNotImplemented {
		t.Error("zone transfer", reply.Rcode)
	}
}

func TestForwarding(t *testing.T) {
	var asked sync.Map // by name: *atomic.Int32
	count := func(name string) int32 {
		n, _ := asked.LoadOrStore(name, new(atomic.Int32))
		return n.(*atomic.Int32).Load()
	}
	failing := upstream(t, func(w dns.ResponseWriter, query *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeServerFailure))
	})
	good := upstream(t, func(w dns.ResponseWriter, query *dns.Msg) {
		name := query.Question[0].Name
		n, _ := asked.LoadOrStore(name, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		reply := new(dns.Msg).SetReply(query)
		switch {
		case name == "big.example.":
			if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP {
				reply.Truncated = true
			} else {
				reply.Answer = records(t, "big.example. 60 A 192.0.2.1")
			}
		case name == "old.example." && query.IsEdns0() != nil:
			reply.Rcode = dns.RcodeFormatError
		case name == "none.example.":
			reply.Rcode, reply.Ns = dns.RcodeNameError, records(t, "example. 300 SOA ns. me. 1 1 1 1 30")
		case name == "bare.example.":
			reply.Rcode = dns.RcodeNameError
		case name == "now.example.":
			reply.Answer = records(t, name+" 0 A 192.0.2.3")
		default:
			reply.Answer = records(t, name+" 60 A 192.0.2.2")
		}
		_ = w.WriteMsg(reply)
	})
	udp, tcp := open(t, &Scope{Upstreams: []netip.AddrPort{failing, good}})
	for _, c := range []struct {
		name  string
		want  string
		times int32 // that the upstream is asked when two ask one after the other
	}{
		{"www.example.", "192.0.2.2", 1}, {"big.example.", "192.0.2.1", 2}, {"old.example.", "192.0.2.2", 2},
		{"none.example.", "NXDOMAIN", 1}, {"bare.example.", "NXDOMAIN", 2}, {"now.example.", "192.0.2.3", 2},
	} {
		first := ask(t, "udp", udp, new(dns.Msg).SetQuestion(c.name, dns.TypeA))
		second := ask(t, "tcp", tcp, new(dns.Msg).SetQuestion(strings.ToUpper(c.name), dns.TypeA))
		if told(first) != c.want || told(second) != c.want || count(c.name) != c.times {
			t.Errorf("%s: %s, then %s, want %s; asked %d times, want %d", c.name, told(first), told(second), c.want, count(c.name), c.times)
		}
	}
	if reply := ask(t, "udp", udp, new(dns.Msg).SetQuestion("www.example.", dns.TypeA).SetEdns0(1232, true)); reply.IsEdns0() == nil || !reply.IsEdns0().Do() {
		t.Error("no EDNS in the answer to a query with it")
	}
	nobody, _ := open(t, &Scope{Upstreams: []netip.AddrPort{failing}})
	if reply := ask(t, "udp", nobody, new(dns.Msg).SetQuestion("www.example.", dns.TypeA)); reply.Rcode != dns.RcodeServerFailure {
		t.Error("from a failing upstream:", told(reply))
	}
}

// Who asks the same at the same time is served by one query, and more than a thousand may wait at once.
func TestManyAskAtOnce(t *testing.T) {
	const names, each = 1500, 2
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		all := make(chan struct{})
		f := newForwarder()
		f.dial = func(string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				conn := &dns.Conn{Conn: far}
				defer conn.Close()
				query, err := conn.ReadMsg()
				if err != nil {
					return
				}
				if asked.Add(1) == names {
					close(all)
				}
				<-all
				reply := new(dns.Msg).SetReply(query)
				reply.Answer = records(t, query.Question[0].Name+" 60 A 192.0.2.2")
				_ = conn.WriteMsg(reply)
			}()
			return near, nil
		}
		var waiting sync.WaitGroup
		var failed atomic.Int32
		for i := range names * each {
			waiting.Go(func() {
				reply := f.forward(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.", i%names), dns.TypeA), []netip.AddrPort{{}})
				if len(reply.Answer) != 1 {
					failed.Add(1)
				}
			})
		}
		waiting.Wait()
		if failed.Load() > 0 || asked.Load() != names {
			t.Errorf("%d failed; %d were asked for %d names", failed.Load(), asked.Load(), names)
		}
	})
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(2)
		put := func(name string, ttl int) {
			reply := new(dns.Msg)
			reply.Answer = records(t, fmt.Sprintf("%s %d A 192.0.2.2", name, ttl))
			c.put(question{name: name}, reply, time.Now())
		}
		put("a.", 60)
		put("b.", 5)
		<-time.After(4 * time.Second)
		if got := c.get(question{name: "a."}, time.Now()); got == nil || got.Answer[0].Header().Ttl != 56 {
			t.Error("after four seconds", got)
		}
		if c.get(question{name: "a.", kind: 1}, time.Now()) != nil || c.get(question{name: "a.", upstreams: "x"}, time.Now()) != nil {
			t.Error("the answer to another question")
		}
		<-time.After(time.Second)
		if c.get(question{name: "b."}, time.Now()) != nil {
			t.Error("kept for too long")
		}
		put("c.", 60)
		c.get(question{name: "a."}, time.Now())
		put("d.", 60)
		if c.get(question{name: "a."}, time.Now()) == nil || c.get(question{name: "c."}, time.Now()) != nil || len(c.items) != 2 || c.used.Len() != 2 {
			t.Error("the wrong one went")
		}
	})
}
