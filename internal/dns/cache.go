package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// cache keeps replies of upstream resolvers for as long as their records allow. When it is full, the reply that was not used for longest is
// dropped.
type cache struct {
	size int // in replies

	mu    sync.Mutex // guards what follows
	items map[question]*list.Element
	used  *list.List // of *cached, the one used last in front
}

// question is the key of a cached reply: everything that the reply depends on.
type question struct {
	upstreams   string
	name        string
	kind        uint16
	dnssec      bool // the DO bit: the reply has DNSSEC records
	checkingOff bool // the CD bit: the upstream resolver does not validate
}

type cached struct {
	question
	reply   *dns.Msg // immutable
	since   time.Time
	expires time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, items: map[question]*list.Element{}, used: list.New()}
}

// get returns a copy of a cached reply, whose TTLs are reduced by the time that it was in the cache; nil if there is none.
func (c *cache) get(q question, now time.Time) *dns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.items[q]
	if at == nil {
		return nil
	}
	kept := at.Value.(*cached)
	if !now.Before(kept.expires) {
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

// put caches a reply, which must not be changed afterwards, if its records allow that.
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

// maxCacheTime limits how long a reply is cached, whatever its records allow.
const maxCacheTime = time.Hour

// lifetime is how long a reply may be cached: as long as the record with the smallest TTL or, if the reply says that there are no records, as long
// as its SOA record allows (RFC 2308). 0 means not at all.
func lifetime(reply *dns.Msg) time.Duration {
	if reply.Truncated || reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return 0
	}
	life := maxCacheTime
	denies := reply.Rcode == dns.RcodeNameError || len(reply.Answer) == 0
	for _, rr := range reply.Answer {
		life = min(life, time.Duration(rr.Header().Ttl)*time.Second)
	}
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok && denies {
			return min(life, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
		}
	}
	if denies {
		return 0
	}
	return life
}
