package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// cache keeps replies of upstream resolvers for as long as their TTLs allow. It holds a bounded number of replies; the least recently
// used is dropped first.
type cache struct {
	size int

	mu    sync.Mutex // guards what follows
	items map[question]*list.Element
	used  *list.List // of *cached, most recently used first
}

// question is the key of a cached reply: everything in a query that the reply may depend on.
type question struct {
	upstreams       string
	name            string
	kind            uint16
	dnssec, checked bool
}

type cached struct {
	question
	reply *dns.Msg // not changed any more
	since time.Time
	until time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, items: map[question]*list.Element{}, used: list.New()}
}

// get returns a copy of a reply, its TTLs reduced by the time since it arrived; nil if there is none.
func (c *cache) get(q question, now time.Time) *dns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.items[q]
	if at == nil {
		return nil
	}
	kept := at.Value.(*cached)
	if !now.Before(kept.until) {
		c.removeLocked(at)
		return nil
	}
	c.used.MoveToFront(at)
	reply := kept.reply.Copy()
	age := uint32(now.Sub(kept.since) / time.Second) // #nosec G115 -- less than an hour
	for _, section := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(age, h.Ttl)
			}
		}
	}
	return reply
}

func (c *cache) put(q question, reply *dns.Msg, now time.Time) {
	life := lifetime(reply)
	if life == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.items[q]; at != nil {
		c.removeLocked(at)
	}
	c.items[q] = c.used.PushFront(&cached{q, reply, now, now.Add(life)})
	for len(c.items) > c.size {
		c.removeLocked(c.used.Back())
	}
}

func (c *cache) removeLocked(at *list.Element) {
	delete(c.items, at.Value.(*cached).question)
	c.used.Remove(at)
}

// maxLifetime bounds the time that a reply is kept.
const maxLifetime = time.Hour

// lifetime is how long a reply may be kept: for the shortest TTL of its records or, for a negative answer, as the SOA record says
// (RFC 2308). 0 means that it must not be kept.
func lifetime(reply *dns.Msg) time.Duration {
	if reply.Truncated || reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return 0
	}
	life := maxLifetime
	negative := reply.Rcode == dns.RcodeNameError || len(reply.Answer) == 0
	for _, rr := range reply.Answer {
		life = min(life, time.Duration(rr.Header().Ttl)*time.Second)
	}
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok && negative {
			return min(life, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
		}
	}
	if negative {
		return 0
	}
	return life
}
