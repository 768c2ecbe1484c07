package dataplane

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/shoal-dev/shoal/internal/dataplane/bridge"
	"github.com/shoal-dev/shoal/internal/dataplane/encryption"
	"github.com/shoal-dev/shoal/internal/dataplane/mesh"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/publish"
)

// nodeRules is the table in the node's own namespace without the single ports of the mesh. Several parts write into the same base chains: this is
// the order in which their rules stand there.
func nodeRules(c *Config) *nft.Ruleset {
	rs := nft.NewRuleset()
	raw := rs.BaseChain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	forward := rs.BaseChain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	pre := rs.BaseChain("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100)
	out := rs.BaseChain("out", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	post := rs.BaseChain("post", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	// Bridges accept packets to loopback addresses (route_localnet): none must come from outside.
	raw.Rule(nft.IIFNameNot("lo"), nft.DAddrIn(bridge.Loopback()), nft.Verdict(expr.VerdictDrop))
	bridge.Rules(rs, c, forward, post)
	if c.Ingress != nil {
		mesh.LocalTaskRules(pre)
	}
	publish.Rules(rs, c.Ports, pre, out)
	encryption.Rules(rs, c)
	if c.Ingress != nil {
		mesh.Rules(rs, c.Ingress, forward, post)
	}
	return rs
}
