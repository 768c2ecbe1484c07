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
		out.rule(f.is(), []expr.Any{f.destination(1), find(f.named("services"))}, leap(1, "turns"))
	}
	return rs
}

// balancing declares what services are written into. A service is one element that names its turn, and one per backend, by the
// backend's number: a change of one service changes no rule, for which the kernel would go through all others. Backends that were chosen
// here are noted as used: to none but these can there be flows.
func balancing(rs *ruleset) {
	rs.dict("turns", nftables.TypeInteger, nftables.TypeVerdict)
	for _, f := range families() {
		rs.dict(f.named("services"), f.data, nftables.TypeInteger)
		rs.dict(f.named("backends"), nftables.MustConcatSetType(f.data, nftables.TypeInteger), f.data).concat = true
		rs.set(f.named("used"), f.data).dynamic = true
	}
}

// aTurn is a counter, modulo the number of backends. Services with as many backends may share one, if there are very many of them:
// each has one of 64.
type aTurn struct {
	family
	backends, lane int
}

func turnOf(v *VIP) aTurn {
	t := aTurn{family: familyOf(v.Addr), backends: len(v.Backends)}
	if t.backends > 1 {
		last := v.Addr.As16()[15]
		t.lane = int(last % 64)
	}
	return t
}

func (t aTurn) id() []byte { return native32(uint32(t.backends<<8 | t.lane<<1 | int(t.size/16))) }

func (t aTurn) name() string { return t.named(fmt.Sprintf("turn_%d_%d", t.backends, t.lane)) }

// write makes the turn's chain: it picks the backend by the virtual address and the counter.
func (t aTurn) write(rs *ruleset) {
	c := rs.chain(t.name())
	rs.sets["turns"].jump(t.id(), t.name())
	if t.backends == 0 {
		c.rule(refuse(unix.IPPROTO_TCP))
		c.rule(refuse(unix.IPPROTO_UDP))
		return
	}
	// A connection that tracking has forgotten must not reach another backend in its middle: it is reset.
	c.rule(stray(), refuse(unix.IPPROTO_TCP))
	const first = 8
	c.rule([]expr.Any{t.destination(first), turn(t.backends, first+t.size/4),
		&expr.Lookup{SourceRegister: first, DestRegister: 1, IsDestRegSet: true, SetName: t.named("backends")},
		&expr.Dynset{SrcRegKey: 1, SetName: t.named("used"), Operation: unix.NFT_DYNSET_OP_ADD}}, dnat(t.family, 0))
}

// writeService enters a service into the maps that balancing declared.
func writeService(rs *ruleset, v *VIP, seed uint32) {
	t := turnOf(v)
	rs.sets[t.named("services")].put(v.Addr.AsSlice(), t.id())
	for i, b := range rotated(v.Backends, seed) {
		rs.sets[t.named("backends")].put(slices.Concat(v.Addr.AsSlice(), native32(uint32(i))), b.AsSlice())
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
