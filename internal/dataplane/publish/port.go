package publish

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
)

// Rules adds to the node's table the port map that connections from outside, from the node itself and from containers all go through. pre and out are
// the base chains of destination NAT in the prerouting and output hooks. Mesh ports are added by Table.
func Rules(rs *nft.Ruleset, ports []config.Port, pre, out *nft.Chain) {
	// The kernel lets no packet with source ::1 out, whatever its destination is turned into. It is refused, so that clients fall back to 127.0.0.1.
	out.Rule(nft.DAddr(netip.IPv6Loopback()), nft.Verdict(expr.VerdictReturn))
	rs.PortMap("ports", nftables.TypeVerdict)
	declareMesh(rs)
	for _, hook := range []*nft.Chain{pre, out} {
		hook.Rule(nft.DAddrLocal(), nft.PortVMap("ports"))
		hook.Rule(nft.DAddrLocal(), nft.PortVMap("gates"))
		enterMesh(hook)
	}
	ports = slices.Clone(ports)
	// Ports bound to one address come before those bound to any: the first rule that matches decides.
	slices.SortStableFunc(ports, func(a, b config.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), compareBools(bound(b), bound(a)), a.HostIP.Compare(b.HostIP))
	})
	for _, p := range ports {
		portRules(rs, p)
	}
}

// bound tells that the port is published on one address only.
func bound(p config.Port) bool { return p.HostIP.IsValid() && !p.HostIP.IsUnspecified() }

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func portRules(rs *nft.Ruleset, p config.Port) {
	proto := p.Protocol.Number()
	name := fmt.Sprintf("port_%s_%d", p.Protocol, p.Port)
	c := rs.Chains[name]
	if c == nil {
		c = rs.Chain(name)
		rs.Sets["ports"].PutGoto(nft.PortKey(proto, p.Port), name)
		if proto == unix.IPPROTO_TCP {
			c.Rule(nft.TCPMidstream(), nft.Verdict(expr.VerdictReturn))
		}
	}
	var toHost []expr.Any
	if bound(p) {
		toHost = nft.DAddr(p.HostIP)
	}
	if len(p.Backends) == 0 && proto != unix.IPPROTO_SCTP {
		c.Rule(toHost, nft.Refuse(proto))
	}
	for _, f := range nft.Families() {
		backends := ofFamily(f, p.Backends)
		switch len(backends) {
		case 0:
		case 1:
			c.Rule(f.Match(), toHost, nft.DNATTo(backends[0].Addr, backends[0].Port))
		default:
			addrs := f.Named("to_" + strings.TrimPrefix(name, "port_"))
			m := rs.Map(addrs, nftables.TypeMark, f.Type)
			for i, b := range backends {
				m.Put(nft.NativeUint32(uint32(i)), b.Addr.AsSlice())
			}
			c.Rule(f.Match(), toHost, []expr.Any{nft.Numgen(len(backends)), nft.Map(addrs), nft.LoadPort(backends[0].Port)}, nft.DNAT(f, nft.PortRegister))
		}
	}
}

// ofFamily is the backends of one family.
func ofFamily(f nft.Family, backends []config.Backend) []config.Backend {
	return slices.DeleteFunc(slices.Clone(backends), func(b config.Backend) bool { return nft.FamilyOf(b.Addr) != f })
}
