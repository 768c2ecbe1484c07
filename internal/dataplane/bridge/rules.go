package bridge

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
)

// Rules adds what the bridges need in the node's table: forward and post are the base chains of the forward hook and of source NAT.
func Rules(rs *nft.Ruleset, bridges map[string]*config.Bridge, forward, post *nft.Chain) {
	names := slices.Sorted(maps.Keys(bridges))
	set := rs.Set("bridges", nftables.TypeIFName)
	for _, name := range names {
		set.Add(nft.IfName(name))
		addRules(bridges[name], forward, post)
	}
	post.Rule(nft.SAddrIn(Loopback()), nft.OIFNameIn("bridges"), nft.Masquerade())
}

// Loopback is 127.0.0.0/8.
func Loopback() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

func addRules(b *config.Bridge, forward, post *nft.Chain) {
	if b.NoICC {
		forward.Rule(nft.IIFName(b.Name), nft.OIFName(b.Name), nft.CTDNAT(true), nft.Verdict(expr.VerdictDrop))
	} else {
		forward.Rule(nft.IIFName(b.Name), nft.OIFName(b.Name), nft.Verdict(expr.VerdictAccept))
	}
	if b.Internal {
		forward.Rule(nft.IIFName(b.Name), nft.Verdict(expr.VerdictDrop))
		forward.Rule(nft.OIFName(b.Name), nft.Verdict(expr.VerdictDrop))
		return
	}
	// What was not published is not reachable from outside, nor from another bridge.
	forward.Rule(nft.OIFName(b.Name), nft.CTNew(), nft.CTDNAT(true), nft.Verdict(expr.VerdictDrop))
	for _, gateway := range []netip.Prefix{b.Gateway, b.Gateway6} {
		if !gateway.IsValid() {
			continue
		}
		post.Rule(nft.SAddrIn(gateway.Masked()), nft.OIFName(b.Name), nft.CTDNAT(false), nft.Masquerade())
		if b.Masquerade {
			post.Rule(nft.SAddrIn(gateway.Masked()), nft.OIFNameNot(b.Name), nft.Masquerade())
		}
	}
}
