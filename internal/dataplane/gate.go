package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// hiddenMark is the bit of a connection's mark that says that its client is to be hidden. It lies outside of markMask.
const hiddenMark = 1 << 16

// gated tells whether not everyone may use the port everywhere.
func gated(r shoal.PublishRule) bool { return len(r.HostIPs)+len(r.Allow) > 0 || r.SNAT }

// writeGate makes the chains that a port with a rule is reached through: by the node's address, by the source, and on to the port's turn.
// What does not pass is refused.
func writeGate(rs *ruleset, key PortKey, r shoal.PublishRule) {
	proto := protoNumber(key.Protocol)
	name := fmt.Sprintf("gate_%s_%d", key.Protocol, key.Port)
	rs.sets["gates"].jump(portKey(proto, key.Port), name)
	c := rs.chain(name)
	c.rule(stray(), verdict(expr.VerdictReturn))
	if len(r.HostIPs) > 0 {
		inner := rs.chain(name + "_from")
		for _, a := range r.HostIPs {
			c.rule(to(a.Unmap()), onTo(name+"_from"))
		}
		c.rule(refuse(proto))
		c = inner
	}
	if len(r.Allow) > 0 {
		inner := rs.chain(name + "_pass")
		for _, p := range r.Allow {
			c.rule(fromWithin(p), onTo(name+"_pass"))
		}
		c.rule(refuse(proto))
		c = inner
	}
	if r.SNAT {
		c.rule([]expr.Any{&expr.Immediate{Register: 1, Data: native32(hiddenMark)}, &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true}})
	}
	meshRules(c)
}

func onTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// hideClients gives connections with the mark the node's own ingress address as their source.
func hideClients(in *Ingress, post *ruleChain) {
	for _, own := range []netip.Addr{in.Addr.Addr(), in.Addr6.Addr()} {
		if !own.IsValid() {
			continue
		}
		f := familyOf(own)
		post.rule(f.is(), []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(hiddenMark), Xor: make([]byte, 4)},
			match(expr.CmpOpNeq, make([]byte, 4)),
			&expr.Immediate{Register: 1, Data: own.AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.proto), RegAddrMin: 1}})
	}
}
