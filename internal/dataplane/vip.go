package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// resolver is where a container finds its DNS server.
func resolver() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// rules is the sandbox's own table: its resolver, and its virtual addresses. Every virtual address has a chain that takes the
// backends in turn. Only the container's own connections pass here, so the chain sees a connection's first packet alone.
func (s *Sandbox) rules() *ruleset {
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
			out.rule(address(daddr, resolver()), portVmap("dns"))
		}
		dict.jump(portKey(proto, 53), name)
	}
	vips := rs.dict("vips", nftables.TypeIPAddr, nftables.TypeVerdict)
	out.rule(vmap(daddr, "vips"))
	for _, v := range s.Services {
		name := "vip_" + v.Addr.String()
		vips.jump(ip4(v.Addr), name)
		c := rs.chain(name)
		if len(v.Backends) == 0 {
			c.rule(refuse(unix.IPPROTO_TCP))
			c.rule(refuse(unix.IPPROTO_UDP))
			continue
		}
		// A connection that tracking has forgotten must not reach another backend in its middle: it is reset.
		c.rule(stray(), refuse(unix.IPPROTO_TCP))
		slots := rs.dict("to_"+v.Addr.String(), nftables.TypeInteger, nftables.TypeIPAddr)
		for i, b := range rotated(v.Backends, s.Seed) {
			slots.put(native32(uint32(i)), ip4(b))
		}
		c.rule(turn(len(v.Backends), "to_"+v.Addr.String()), dnat(0))
	}
	return rs
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
