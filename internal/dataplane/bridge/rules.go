package bridge

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Rules adds what the bridges need in the node's table: forward and post are the base chains of the forward hook and of source NAT.
func Rules(rs *nft.Ruleset, c *config.Config, forward, post *nft.Chain) {
	bridges := c.Bridges
	names := slices.Sorted(maps.Keys(bridges))
	set := rs.Set("bridges", nftables.TypeIFName)
	for _, name := range names {
		set.Add(nft.IfName(name))
		withinRules(bridges[name], slices.DeleteFunc(slices.Clone(c.Links), func(l config.Link) bool { return l.Bridge != name }), forward)
	}
	for _, name := range names {
		if b := bridges[name]; !b.Internal {
			outsideRules(b, slices.DeleteFunc(slices.Clone(c.Direct), func(p config.DirectPort) bool { return p.Bridge != name }), forward, post)
		}
	}
	post.Rule(nft.SAddrIn(Loopback()), nft.OIFNameIn("bridges"), nft.Masquerade())
}

// Loopback is 127.0.0.0/8.
func Loopback() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

// withinRules decides about what stays on the bridge, and that nothing comes out of an internal one. They come before those of any bridge that lets
// something in.
func withinRules(b *config.Bridge, links []config.Link, forward *nft.Chain) {
	if b.NoICC {
		for _, l := range links {
			within := slices.Concat(nft.IIFName(b.Name), nft.OIFName(b.Name))
			from, to := netip.PrefixFrom(l.From, l.From.BitLen()), netip.PrefixFrom(l.To, l.To.BitLen())
			forward.Rule(within, nft.SAddrIn(from), nft.DAddr(l.To), nft.L4Proto(l.Protocol.Number()), nft.DPort(l.Port), nft.Verdict(expr.VerdictAccept))
			forward.Rule(within, nft.SAddrIn(to), nft.DAddr(l.From), nft.L4Proto(l.Protocol.Number()), nft.CTReply(), nft.Verdict(expr.VerdictAccept))
		}
		forward.Rule(nft.IIFName(b.Name), nft.OIFName(b.Name), nft.CTDNAT(true), nft.Verdict(expr.VerdictDrop))
	} else {
		forward.Rule(nft.IIFName(b.Name), nft.OIFName(b.Name), nft.Verdict(expr.VerdictAccept))
	}
	if b.Internal {
		forward.Rule(nft.IIFName(b.Name), nft.Verdict(expr.VerdictDrop))
		forward.Rule(nft.OIFName(b.Name), nft.Verdict(expr.VerdictDrop))
	}
}

// outsideRules decides about what comes from elsewhere and what leaves.
func outsideRules(b *config.Bridge, direct []config.DirectPort, forward, post *nft.Chain) {
	for _, p := range direct {
		var from []expr.Any
		if p.From != "" {
			from = nft.IIFName(p.From)
		}
		forward.Rule(from, nft.OIFName(b.Name), nft.DAddr(p.Addr), nft.L4Proto(p.Protocol.Number()), nft.DPort(p.Port), nft.Verdict(expr.VerdictAccept))
	}
	families := []family{{b.Gateway, b.Mode, b.Source, unix.IPPROTO_ICMP}, {b.Gateway6, b.Mode6, b.Source6, unix.IPPROTO_ICMPV6}}
	for _, f := range families {
		if f.gateway.IsValid() && f.mode == shoal.GatewayRouted {
			forward.Rule(nft.OIFName(b.Name), nft.DAddrIn(f.gateway.Masked()), nft.L4Proto(f.icmp), nft.Verdict(expr.VerdictAccept))
		}
		if f.gateway.IsValid() && f.mode == shoal.GatewayUnprotected {
			forward.Rule(nft.OIFName(b.Name), nft.DAddrIn(f.gateway.Masked()), nft.Verdict(expr.VerdictAccept))
		}
	}
	// What was not published is not reachable from outside, nor from another bridge.
	forward.Rule(nft.OIFName(b.Name), nft.CTNew(), nft.CTDNAT(true), nft.Verdict(expr.VerdictDrop))
	for _, f := range families {
		if !f.gateway.IsValid() {
			continue
		}
		post.Rule(nft.SAddrIn(f.gateway.Masked()), nft.OIFName(b.Name), nft.CTDNAT(false), nft.Masquerade())
		switch {
		case !b.Masquerade || f.mode == shoal.GatewayRouted:
		case f.source.IsValid():
			post.Rule(nft.SAddrIn(f.gateway.Masked()), nft.OIFNameNot(b.Name), nft.SNATTo(f.source))
		default:
			post.Rule(nft.SAddrIn(f.gateway.Masked()), nft.OIFNameNot(b.Name), nft.Masquerade())
		}
	}
}

// family is what a bridge has of IPv4 or IPv6.
type family struct {
	gateway netip.Prefix
	mode    shoal.GatewayMode
	source  netip.Addr
	icmp    byte // IPPROTO_*
}
