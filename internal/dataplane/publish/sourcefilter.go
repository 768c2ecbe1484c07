package publish

import (
	"fmt"

	"github.com/google/nftables/expr"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/mesh"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// filtered tells whether a port has a rule at all: it then has a source filter, even if that only hides clients.
func filtered(r shoal.PublishRule) bool { return len(r.HostIPs)+len(r.Allow) > 0 || r.SNAT }

// filterRules adds the source filter of a port: the chains that connections to it pass through before its counter. The first compares the node's
// address, the second the source; what does not pass is refused.
func filterRules(rs *nft.Ruleset, key config.PortKey, r shoal.PublishRule) {
	proto := key.Protocol.Number()
	name := fmt.Sprintf("gate_%s_%d", key.Protocol, key.Port)
	rs.Sets["gates"].PutGoto(nft.PortKey(proto, key.Port), name)
	c := rs.Chain(name)
	c.Rule(nft.TCPMidstream(), nft.Verdict(expr.VerdictReturn))
	if len(r.HostIPs) > 0 {
		next := rs.Chain(name + "_from")
		for _, a := range r.HostIPs {
			c.Rule(nft.DAddr(a.Unmap()), nft.Goto(name+"_from"))
		}
		c.Rule(nft.Refuse(proto))
		c = next
	}
	if len(r.Allow) > 0 {
		next := rs.Chain(name + "_pass")
		for _, p := range r.Allow {
			c.Rule(nft.SAddrIn(p), nft.Goto(name+"_pass"))
		}
		c.Rule(nft.Refuse(proto))
		c = next
	}
	if r.SNAT {
		c.Rule(mesh.RequestSNAT())
	}
	enterMesh(c)
}
