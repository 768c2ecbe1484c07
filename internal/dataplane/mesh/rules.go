package mesh

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// snatMark is the bit of a connection's mark that says that its client is to be hidden. It lies outside of markMask.
const snatMark = 1 << 16

// RequestSNAT marks a connection so that SNATRules hide its client from the task.
func RequestSNAT() []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: nft.NativeUint32(snatMark)}, nft.SetCTMark()}
}

// LocalTaskRules sends what other nodes forward to this node's tasks to their addresses on the gateway bridge: pre is the base chain of destination
// NAT in the prerouting hook.
func LocalTaskRules(pre *nft.Chain) {
	for _, f := range nft.Families() {
		pre.Rule(f.Match(), nft.IIFName(DeviceName), []expr.Any{f.LoadDAddr(1), nft.Map(f.Named("localtasks"))}, nft.DNAT(f, 0))
	}
}

// Rules adds what lets connections that another node received reach this node's tasks with the client's address kept, and their replies find the way
// back: the entry node is told by its MAC and remembered in the connection's mark, which picks a routing table (routes.go). forward and post are the
// base chains of the forward hook and of source NAT.
func Rules(rs *nft.Ruleset, in *config.Ingress, forward, post *nft.Chain) {
	declare(rs, in)
	mangle := rs.BaseChain("mangle", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150)
	mangle.Rule(nft.IIFName(DeviceName), nft.CTNew(), []expr.Any{nft.EtherSAddr(), nft.Map("marks"), nft.SetCTMark()})
	mangle.Rule(nft.IIFName(in.GatewayBridge), nft.CTReply(), []expr.Any{nft.CTMark(), nft.Cmp(expr.CmpOpNeq, nft.NativeUint32(0)),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}})
	for _, direction := range [][]expr.Any{nft.IIFName(DeviceName), nft.OIFName(DeviceName)} {
		forward.Rule(direction, nft.ClampMSS())
	}
	snatRules(in, post)
	post.Rule(nft.SAddrLocal(), nft.OIFName(DeviceName), nft.Masquerade())
	for _, f := range nft.Families() {
		post.Rule(nft.OIFName(DeviceName), returning(f), nft.Masquerade())
	}
	// The tunnel's own packets need no connection tracking, which comes at -200.
	for name, hook := range map[string]*nftables.ChainHook{"tunnel_in": nftables.ChainHookPrerouting, "tunnel_out": nftables.ChainHookOutput} {
		rs.BaseChain(name, nftables.ChainTypeFilter, hook, -310).Rule(nft.L4Proto(unix.IPPROTO_UDP), nft.DPort(in.Port), []expr.Any{&expr.Notrack{}})
	}
}

// declare adds the sets and maps: "marks" from a peer's MAC to its mark, "returning" of a client that is a node and that node as next hop,
// "localtasks" from a task's ingress address to its address on the gateway bridge.
func declare(rs *nft.Ruleset, in *config.Ingress) {
	marks := rs.Map("marks", nftables.TypeEtherAddr, nftables.TypeMark)
	for _, f := range nft.Families() {
		rs.Set(f.Named("returning"), nft.ConcatType(f.Type, f.Type)).Concat = true
		rs.Map(f.Named("localtasks"), f.Type, f.Type)
	}
	for _, p := range in.Peers {
		marks.Put(shoal.MACFor(p.Addr).HardwareAddr(), nft.NativeUint32(entryMark(p.Addr)))
		rs.Sets["returning"].Add(slices.Concat(p.Host.AsSlice(), p.Addr.AsSlice()))
		for _, a := range p.Hosts6 {
			rs.Sets["returning6"].Add(slices.Concat(a.AsSlice(), p.Addr6.AsSlice()))
		}
	}
	for ingress, local := range in.LocalTasks {
		rs.Sets[nft.FamilyOf(ingress).Named("localtasks")].Put(ingress.AsSlice(), local.AsSlice())
	}
}

// snatRules gives connections whose client is to be hidden the node's own ingress address as their source.
func snatRules(in *config.Ingress, post *nft.Chain) {
	for _, own := range []netip.Addr{in.Addr.Addr(), in.Addr6.Addr()} {
		if own.IsValid() {
			post.Rule(nft.FamilyOf(own).Match(), nft.CTMarkHas(snatMark), nft.SNATTo(own))
		}
	}
}

// returning matches connections to a task on the very node that they come from. That node would drop packets from its own address as forged.
func returning(f nft.Family) []expr.Any {
	const source = 8 // a register of four bytes; the next hop follows the address
	key := expr.RtNexthop4
	if f.Proto == unix.NFPROTO_IPV6 {
		key = expr.RtNexthop6
	}
	return append(f.Match(), f.LoadSAddr(source), &expr.Rt{Register: source + f.Size/4, Key: key},
		&expr.Lookup{SourceRegister: source, SetName: f.Named("returning")})
}
