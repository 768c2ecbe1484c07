package sandbox

import (
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/vip"
)

// resolverAddr is where a container finds its DNS server, as in Docker.
func resolverAddr() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// fixedRules is the sandbox's table without single services: the way to its resolver, and the maps that its connections to virtual addresses go
// through.
func fixedRules(s *config.Sandbox) *nft.Ruleset {
	rs := nft.NewRuleset()
	out := rs.BaseChain("out", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	resolverRules(rs, out, s)
	vip.Declare(rs)
	vip.Enter(out)
	return rs
}

// resolverRules redirects port 53 of resolverAddr to the ports that the resolver listens on.
func resolverRules(rs *nft.Ruleset, out *nft.Chain, s *config.Sandbox) {
	const dns = 53
	if s.DNSPortUDP == 0 && s.DNSPortTCP == 0 {
		return
	}
	chains := rs.PortMap("dns", nftables.TypeVerdict)
	out.Rule(nft.DAddr(resolverAddr()), nft.PortVMap("dns"))
	for _, r := range []struct {
		proto byte
		port  uint16
		chain string
	}{{unix.IPPROTO_UDP, s.DNSPortUDP, "dns_udp"}, {unix.IPPROTO_TCP, s.DNSPortTCP, "dns_tcp"}} {
		if r.port != 0 {
			rs.Chain(r.chain).Rule(nft.DNATTo(resolverAddr(), r.port))
			chains.PutGoto(nft.PortKey(r.proto, dns), r.chain)
		}
	}
}
