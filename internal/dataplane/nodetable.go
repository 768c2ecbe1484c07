package dataplane

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// ingressDevice is the node's interface on the routing mesh.
const ingressDevice = "ing0"

// markMask is the part of packet and connection marks that names the node by which a connection entered the mesh.
const markMask = 0xffff

func protoNumber(p shoal.Protocol) byte {
	switch p {
	case shoal.UDP:
		return unix.IPPROTO_UDP
	case shoal.SCTP:
		return unix.IPPROTO_SCTP
	default:
		return unix.IPPROTO_TCP
	}
}

// nodeRules is the table in the node's own namespace, without the single ports of the mesh: egress, published ports, and the node's part
// in the routing mesh.
func nodeRules(c *Config) *ruleset {
	rs := newRuleset()
	bridges := rs.set("bridges", nftables.TypeIFName)
	for _, name := range keys(c.Bridges) {
		bridges.add(ifname(name))
	}
	raw := rs.base("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	raw.rule(iifNot("lo"), toWithin(netip.MustParsePrefix("127.0.0.0/8")), verdict(expr.VerdictDrop))
	forward := rs.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	post := rs.base("post", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	for _, name := range keys(c.Bridges) {
		bridgeRules(c.Bridges[name], forward, post)
	}
	post.rule(fromWithin(netip.MustParsePrefix("127.0.0.0/8")), oifIn("bridges"), masquerade())
	publish(rs, c)
	encryptedRules(rs, c)
	if c.Ingress != nil {
		ingressRules(rs, c.Ingress, forward, post)
	}
	return rs
}

func bridgeRules(b *Bridge, forward, post *ruleChain) {
	switch {
	case b.NoICC:
		forward.rule(iif(b.Name), oif(b.Name), translated(false), verdict(expr.VerdictDrop))
	default:
		forward.rule(iif(b.Name), oif(b.Name), verdict(expr.VerdictAccept))
	}
	if b.Internal {
		forward.rule(iif(b.Name), verdict(expr.VerdictDrop))
		forward.rule(oif(b.Name), verdict(expr.VerdictDrop))
		return
	}
	// What was not published is not reachable from without, nor from another bridge.
	forward.rule(oif(b.Name), ctNew(), translated(false), verdict(expr.VerdictDrop))
	for _, gateway := range []netip.Prefix{b.Gateway, b.Gateway6} {
		if !gateway.IsValid() {
			continue
		}
		post.rule(fromWithin(gateway.Masked()), oif(b.Name), translated(true), masquerade())
		if b.Masquerade {
			post.rule(fromWithin(gateway.Masked()), oifNot(b.Name), masquerade())
		}
	}
}

// publish writes the port map that local processes, containers and the outside all go through.
func publish(rs *ruleset, c *Config) {
	pre := rs.base("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100)
	out := rs.base("out", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	if c.Ingress != nil {
		for _, f := range families() {
			pre.rule(f.is(), iif(ingressDevice), []expr.Any{f.destination(1), find(f.named("localtasks"))}, dnat(f, 0))
		}
	}
	// The kernel lets nothing from ::1 out, whatever its address is turned into. Whoever tries is refused, and falls back to 127.0.0.1.
	out.rule(to(netip.IPv6Loopback()), verdict(expr.VerdictReturn))
	portDict(rs, "ports")
	meshMaps(rs)
	for _, hook := range []*ruleChain{pre, out} {
		hook.rule(local(false), portVmap("ports"))
		hook.rule(local(false), portVmap("gates"))
		meshRules(hook)
	}
	ports := slices.Clone(c.Ports)
	// Ports bound to one address come before those bound to any.
	slices.SortStableFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), -cmp.Compare(specific(a), specific(b)), a.HostIP.Compare(b.HostIP))
	})
	for _, p := range ports {
		publishPort(rs, p)
	}
}

func specific(p Port) int {
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		return 1
	}
	return 0
}

func publishPort(rs *ruleset, p Port) {
	proto := protoNumber(p.Protocol)
	name := fmt.Sprintf("port_%s_%d", p.Protocol, p.Port)
	c := rs.chains[name]
	if c == nil {
		c = rs.chain(name)
		rs.sets["ports"].jump(portKey(proto, p.Port), name)
		if proto == unix.IPPROTO_TCP {
			c.rule(stray(), verdict(expr.VerdictReturn))
		}
	}
	var only []expr.Any
	if specific(p) == 1 {
		only = to(p.HostIP)
	}
	if len(p.Backends) == 0 && proto != unix.IPPROTO_SCTP {
		c.rule(only, refuse(proto))
	}
	for _, f := range families() {
		backends := of(f, p.Backends)
		switch len(backends) {
		case 0:
		case 1:
			c.rule(f.is(), only, dnatTo(backends[0].Addr, backends[0].Port))
		default:
			dict := f.named("to_" + strings.TrimPrefix(name, "port_"))
			slots := rs.dict(dict, nftables.TypeMark, f.data)
			for i, b := range backends {
				slots.put(native32(uint32(i)), b.Addr.AsSlice())
			}
			const port = 2 // a register behind an address of either family
			c.rule(f.is(), only, []expr.Any{count(len(backends), 1), find(dict), &expr.Immediate{Register: port, Data: be16(backends[0].Port)}}, dnat(f, port))
		}
	}
}

// ingressRules let connections that another node received reach this node's tasks with the client's address kept, and their
// replies find the way back: the entry node is told by its hardware address and remembered in the connection's mark, which
// picks a routing table (see routes in ingress.go).
func ingressRules(rs *ruleset, in *Ingress, forward, post *ruleChain) {
	marks := rs.dict("marks", nftables.TypeEtherAddr, nftables.TypeMark)
	for _, f := range families() {
		rs.set(f.named("returning"), nftables.MustConcatSetType(f.data, f.data)).concat = true
	}
	for _, p := range in.Peers {
		marks.put(mac(p.Addr), native32(peerMark(p.Addr)))
		rs.sets["returning"].add(slices.Concat(p.Host.AsSlice(), p.Addr.AsSlice()))
		for _, a := range p.Hosts6 {
			rs.sets["returning6"].add(slices.Concat(a.AsSlice(), p.Addr6.AsSlice()))
		}
	}
	for _, f := range families() {
		rs.dict(f.named("localtasks"), f.data, f.data)
	}
	for ingress, gw := range in.LocalTasks {
		rs.sets[familyOf(ingress).named("localtasks")].put(ingress.AsSlice(), gw.AsSlice())
	}
	mangle := rs.base("mangle", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150)
	mangle.rule(iif(ingressDevice), ctNew(), []expr.Any{etherSource(), find("marks"),
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true}})
	mangle.rule(iif(in.Gwbridge), ctReply(), []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}})
	for _, side := range [][]expr.Any{iif(ingressDevice), oif(ingressDevice)} {
		forward.rule(side, clampMSS())
	}
	hideClients(in, post)
	post.rule(local(true), oif(ingressDevice), masquerade())
	for _, f := range families() {
		post.rule(oif(ingressDevice), returning(f), masquerade())
	}
	// The tunnel's own packets need no tracking.
	for name, hook := range map[string]*nftables.ChainHook{"tunnel_in": nftables.ChainHookPrerouting, "tunnel_out": nftables.ChainHookOutput} {
		rs.base(name, nftables.ChainTypeFilter, hook, -310).rule(l4proto(unix.IPPROTO_UDP), dport(in.Port), []expr.Any{&expr.Notrack{}})
	}
}

// returning matches connections that go to a task on the very node that they come from: there they would be taken for forged.
func returning(f family) []expr.Any {
	const source = 8 // a register of four bytes; the next hop follows the address
	key := expr.RtNexthop4
	if f.proto == unix.NFPROTO_IPV6 {
		key = expr.RtNexthop6
	}
	return append(f.is(), f.source(source), &expr.Rt{Register: source + f.size/4, Key: key},
		&expr.Lookup{SourceRegister: source, SetName: f.named("returning")})
}

func mac(a netip.Addr) net.HardwareAddr {
	hw, _ := net.ParseMAC(MAC(a)) // MAC always writes a valid one
	return hw
}
