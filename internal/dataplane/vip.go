package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// resolver is where a container finds its DNS server.
func resolver() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// frame is the sandbox's own table without what depends on single services: the way to its resolver, and the maps that its
// connections to virtual addresses go through. Only the container's own connections pass here, and of those the first packet alone.
func (s *Sandbox) frame() *ruleset {
	rs := newRuleset()
	out := rs.base("out", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	for proto, port := range map[byte]uint16{unix.IPPROTO_UDP: s.DNSPortUDP, unix.IPPROTO_TCP: s.DNSPortTCP} {
		if port == 0 {
			continue
		}
		name := map[byte]string{unix.IPPROTO_UDP: "dns_udp", unix.IPPROTO_TCP: "dns_tcp"}[proto]
		rs.chain(name).rule(dnatTo(resolver(), port))
		dict := rs.sets["dns"]
		if dict == nil {
			dict = portDict(rs, "dns")
			out.rule(to(resolver()), portVmap("dns"))
		}
		dict.jump(portKey(proto, 53), name)
	}
	balancing(rs)
	for _, f := range families() {
		takeTurn(out, f.is(), []expr.Any{f.destination(1), find(f.named("services"))})
	}
	return rs
}

// balancing declares what services are written into. A service is one element that names its turn, and one per backend in the map of the
// backend's number: a change of one service changes no rule, for which the kernel would go through all others. Services that were
// called through here are noted as used: none but these can have flows.
func balancing(rs *ruleset) {
	turnMaps(rs)
	for _, f := range families() {
		rs.dict(f.named("services"), f.data, nftables.TypeMark)
		rs.set(f.named("used"), f.data).dynamic = true
	}
}

// turnMaps declares the ways from a turn's ID to its chain, and from the number that it has come to on to that one's chain.
func turnMaps(rs *ruleset) {
	rs.dict("turns", nftables.TypeMark, nftables.TypeVerdict)
	for _, f := range families() {
		rs.dict(f.named("slots"), nftables.TypeMark, nftables.TypeVerdict)
	}
}

// takeTurn goes to the turn whose ID the lookup has put into register 1. On its way the ID is the packet's priority, which nothing reads
// before the turn takes it off: nft(8) of Debian 12 cannot list a rule that looks up what another lookup has found.
func takeTurn(c *ruleChain, lookup ...[]expr.Any) {
	c.rule(slices.Concat(lookup...), []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1, SourceRegister: true}})
	c.rule([]expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1}}, leap(1, "turns"))
}

// turn is a counter, modulo the number of backends. Services with as many backends may share one, if there are very many of them:
// each has one of 64.
type turn struct {
	family
	backends, lane int
}

func turnOf(v *VIP) turn {
	t := turn{family: familyOf(v.Addr), backends: len(v.Backends)}
	if t.backends > 1 {
		last := v.Addr.As16()[15]
		t.lane = int(last % 64)
	}
	return t
}

// id is none of the priorities that sockets can have by themselves.
func (t turn) id() []byte {
	return native32(uint32(1<<30 | t.backends<<8 | t.lane<<1 | int(t.size/16)))
}

func (t turn) name() string { return t.named(fmt.Sprintf("turn_%d_%d", t.backends, t.lane)) }

// write makes the turn's chain. What is in the middle of a connection that tracking has forgotten must not reach another backend.
func (t turn) write(rs *ruleset, onStray []expr.Any, first ...[]expr.Any) {
	c := rs.chain(t.name())
	rs.sets["turns"].jump(t.id(), t.name())
	c.rule([]expr.Any{&expr.Immediate{Register: 1, Data: native32(0)}, &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1, SourceRegister: true}})
	c.rule(stray(), onStray)
	if t.backends == 0 {
		c.rule(refuse(unix.IPPROTO_TCP))
		c.rule(refuse(unix.IPPROTO_UDP))
		return
	}
	for _, r := range first {
		c.rule(r)
	}
	c.rule([]expr.Any{count(t.backends, 1)}, leap(1, t.named("slots")))
}

// slot is a number that a turn comes to.
type slot struct {
	family
	number int
}

func (s slot) backends() string { return s.named(fmt.Sprintf("backends_%d", s.number)) }

// write makes the slot's chain, which finds the backend of that number.
func (s slot) write(rs *ruleset, rule []expr.Any) {
	name := s.named(fmt.Sprintf("slot_%d", s.number))
	rs.sets[s.named("slots")].jump(native32(uint32(s.number)), name)
	rs.chain(name).rule(rule)
}

// slots is all numbers that the turn may come to.
func (t turn) slots() []slot {
	out := make([]slot, t.backends)
	for i := range out {
		out[i] = slot{t.family, i}
	}
	return out
}

// vipTable is the turns and slots that a sandbox's table has chains for. They stay when no service takes them any more.
type vipTable struct {
	turns map[turn]bool
	slots map[slot]bool
}

func newVIPTable() vipTable { return vipTable{map[turn]bool{}, map[slot]bool{}} }

func (vipTable) declare(rs *ruleset, s slot) *ruleSet {
	if have := rs.sets[s.backends()]; have != nil {
		return have
	}
	return rs.dict(s.backends(), s.data, s.data)
}

// before and after are what the changes take from the table, and bring.
func (vt vipTable) before(rs *ruleset, v *VIP, seed uint32) {
	t := turnOf(v)
	rs.sets[t.named("services")].put(v.Addr.AsSlice(), t.id())
	for i, b := range rotated(v.Backends, seed) {
		vt.declare(rs, slot{t.family, i}).put(v.Addr.AsSlice(), b.AsSlice())
	}
}

func (vt vipTable) after(rs *ruleset, v *VIP, seed uint32) {
	vt.before(rs, v, seed)
	t := turnOf(v)
	for _, s := range t.slots() {
		if vt.slots[s] {
			continue
		}
		vt.slots[s] = true
		s.write(rs, append([]expr.Any{s.destination(1), find(s.backends())}, dnat(s.family, 0)...))
	}
	if !vt.turns[t] {
		vt.turns[t] = true
		note := []expr.Any{t.destination(1), &expr.Dynset{SrcRegKey: 1, SetName: t.named("used"), Operation: unix.NFT_DYNSET_OP_ADD}}
		t.write(rs, refuse(unix.IPPROTO_TCP), note)
	}
}

func portDict(rs *ruleset, name string) *ruleSet {
	d := rs.dict(name, nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), nftables.TypeVerdict)
	d.concat = true
	return d
}

func rotated[T any](list []T, seed uint32) []T {
	if len(list) == 0 {
		return nil
	}
	n := int(seed % uint32(len(list)))
	return append(append(make([]T, 0, len(list)), list[n:]...), list[:n]...)
}

// MAC derives a hardware address from an IPv4 address as Docker does.
func MAC(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// peerMark tells the entry nodes of connections apart: the last 16 bits of a node's ingress address, which are unique on networks
// of up to a /16.
func peerMark(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(binary.BigEndian.Uint16(b[2:]))
}
