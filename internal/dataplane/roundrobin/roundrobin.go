// Package roundrobin builds the nftables chains that take backends in turn, for virtual addresses in a sandbox and for ports of the routing mesh on the
// node. It writes rulesets (package nft), not the kernel.
//
// A service is data, not rules: whenever a rule or a verdict is added, the kernel checks the whole table again. So a service has one element in a map,
// which names the counter that it shares with others of as many backends, and one element per backend in the map of the backend's slot.
// A packet goes from the first to the counter's chain, which takes the next number modulo the number of backends, and from there to the chain
// of that slot, which finds the backend.
package roundrobin

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/nft"
)

// countersPerSize is how many counters there may be for each number of backends. Services share one only if there are more of them than that.
const countersPerSize = 64

// Counter is a number that grows with each connection, modulo the number of backends.
type Counter struct {
	nft.Family
	backends, index int
}

// CounterFor is the counter of a service with so many backends of the family. hash spreads services over the counters. There is only one for
// services with less than two backends: they have nothing to count.
func CounterFor(f nft.Family, backends, hash int) Counter {
	c := Counter{Family: f, backends: backends}
	if backends > 1 {
		c.index = hash % countersPerSize
	}
	return c
}

// ID is the counter's number in maps. It is none of the packet priorities that sockets can have by themselves.
func (c Counter) ID() []byte {
	return nft.NativeUint32(uint32(1<<30 | c.backends<<8 | c.index<<1 | int(c.Size/16)))
}

func (c Counter) chain() string {
	return c.Named(fmt.Sprintf("turn_%d_%d", c.backends, c.index))
}

// Slot is a number that a counter comes to: the place of a backend in the list of its service.
type Slot struct {
	nft.Family
	Number int
}

// BackendMap is the name of the map that has the backend of that place for every service.
func (s Slot) BackendMap() string { return s.Named(fmt.Sprintf("backends_%d", s.Number)) }

// Rules is what differs between the tables that balance.
type Rules struct {
	// Midstream is what becomes of a packet in the middle of a TCP connection that tracking has forgotten: it must not reach another backend.
	Midstream []expr.Any
	// BeforeCount, which may be nil, is a further rule of a counter's chain.
	BeforeCount func(nft.Family) []expr.Any
	// Slot is the rule that sends a connection to the service's backend in the slot.
	Slot func(Slot) []expr.Any
}

// Declare adds the maps from a counter's ID to its chain, and from a slot's number to its chain.
func Declare(rs *nft.Ruleset) {
	rs.Map("turns", nftables.TypeMark, nftables.TypeVerdict)
	for _, f := range nft.Families() {
		rs.Map(f.Named("slots"), nftables.TypeMark, nftables.TypeVerdict)
	}
}

// Enter adds rules that go to the counter whose ID the look-up puts into register 1. On its way the ID is the packet's priority, which nothing reads
// before the counter's chain takes it off: nft(8) of Debian 12 cannot list a rule that looks up what another look-up has found.
func Enter(c *nft.Chain, lookup ...[]expr.Any) {
	c.Rule(slices.Concat(lookup...), []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1, SourceRegister: true}})
	c.Rule([]expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1}}, nft.VMap(1, "turns"))
}

// Chains is the counters and slots that a table has chains for. They are made as they are needed, and stay when no service takes them any more.
type Chains struct {
	rules    Rules
	counters map[Counter]bool
	slots    map[Slot]bool
}

// NewChains is those of a table that has none.
func NewChains(rules Rules) *Chains {
	return &Chains{rules, map[Counter]bool{}, map[Slot]bool{}}
}

// Empty tells that the table has no counters.
func (cs *Chains) Empty() bool { return len(cs.counters) == 0 }

// Require adds the chains of the counter, and of all slots that it may come to, that the table lacks. They count as there from then on.
func (cs *Chains) Require(rs *nft.Ruleset, c Counter) {
	for i := range c.backends {
		if s := (Slot{c.Family, i}); !cs.slots[s] {
			cs.slots[s] = true
			cs.writeSlot(rs, s)
		}
	}
	if !cs.counters[c] {
		cs.counters[c] = true
		cs.writeCounter(rs, c)
	}
}

// WriteAll adds all chains that the table has.
func (cs *Chains) WriteAll(rs *nft.Ruleset) {
	for c := range cs.counters {
		cs.writeCounter(rs, c)
	}
	for s := range cs.slots {
		cs.writeSlot(rs, s)
	}
}

func (cs *Chains) writeCounter(rs *nft.Ruleset, c Counter) {
	chain := rs.Chain(c.chain())
	rs.Sets["turns"].PutGoto(c.ID(), c.chain())
	chain.Rule([]expr.Any{&expr.Immediate{Register: 1, Data: nft.NativeUint32(0)}, &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1, SourceRegister: true}})
	chain.Rule(nft.TCPMidstream(), cs.rules.Midstream)
	if c.backends == 0 {
		chain.Rule(nft.Refuse(unix.IPPROTO_TCP))
		chain.Rule(nft.Refuse(unix.IPPROTO_UDP))
		return
	}
	if cs.rules.BeforeCount != nil {
		chain.Rule(cs.rules.BeforeCount(c.Family))
	}
	chain.Rule([]expr.Any{nft.Numgen(c.backends)}, nft.VMap(1, c.Named("slots")))
}

func (cs *Chains) writeSlot(rs *nft.Ruleset, s Slot) {
	name := s.Named(fmt.Sprintf("slot_%d", s.Number))
	rs.Sets[s.Named("slots")].PutGoto(nft.NativeUint32(uint32(s.Number)), name)
	rs.Chain(name).Rule(cs.rules.Slot(s))
}
