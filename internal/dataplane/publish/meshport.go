package publish

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/roundrobin"
)

// declareMesh adds the maps that ports of the mesh are written into: "mesh" names a port's counter, and "gates" the chain of its source filter.
func declareMesh(rs *nft.Ruleset) {
	roundrobin.Declare(rs)
	rs.PortMap("gates", nftables.TypeVerdict)
	for _, f := range nft.Families() {
		rs.PortMap(f.Named("mesh"), nftables.TypeMark)
	}
}

// enterMesh adds the rules that take packets to a port of the mesh to its counter.
func enterMesh(c *nft.Chain) {
	for _, f := range nft.Families() {
		roundrobin.Enter(c, f.Match(), nft.DAddrLocal(), nft.PortMap(f.Named("mesh")))
	}
}

// newChains is the counters and slots of a table that has none yet.
func newChains() *roundrobin.Chains {
	return roundrobin.NewChains(roundrobin.Rules{
		Midstream: nft.Verdict(expr.VerdictReturn),
		Slot: func(s roundrobin.Slot) []expr.Any {
			const addr = 8 // the backend's address is where the key was, as words of four bytes; its port follows
			return append(nft.PortMap(s.BackendMap()), nft.DNAT(s.Family, addr+s.Size/4)...)
		},
	})
}

// meshCounter spreads ports over the counters so that the same number of another protocol has another counter.
func meshCounter(f nft.Family, key config.PortKey, port *config.MeshPort) roundrobin.Counter {
	return roundrobin.CounterFor(f, len(ofFamily(f, port.Backends)), int(key.Port)+int(key.Protocol.Number()))
}

// meshElements adds what a port has in the maps, and its source filter.
func meshElements(rs *nft.Ruleset, key config.PortKey, port *config.MeshPort) {
	if filtered(port.Rule) {
		filterRules(rs, key, port.Rule)
	}
	at := nft.PortKey(key.Protocol.Number(), key.Port)
	for _, f := range nft.Families() {
		rs.Sets[f.Named("mesh")].Put(at, meshCounter(f, key, port).ID())
		for i, b := range ofFamily(f, port.Backends) {
			backendMap(rs, roundrobin.Slot{Family: f, Number: i}).Put(at, slices.Concat(b.Addr.AsSlice(), nft.BigUint16(b.Port), []byte{0, 0}))
		}
	}
}

// addMeshPort adds what a port has in the maps, and the chains that it needs and the table lacks.
func addMeshPort(rs *nft.Ruleset, chains *roundrobin.Chains, key config.PortKey, port *config.MeshPort) {
	meshElements(rs, key, port)
	for _, f := range nft.Families() {
		chains.Require(rs, meshCounter(f, key, port))
	}
}

// backendMap is the map from ports to the address and port of their backend in the slot.
func backendMap(rs *nft.Ruleset, s roundrobin.Slot) *nft.Set {
	if m := rs.Sets[s.BackendMap()]; m != nil {
		return m
	}
	return rs.PortMap(s.BackendMap(), nft.ConcatType(s.Type, nftables.TypeInetService))
}

// backendAddrs is the addresses of the port's backends; nil for no port.
func backendAddrs(m *config.MeshPort) []netip.Addr {
	if m == nil {
		return nil
	}
	out := make([]netip.Addr, len(m.Backends))
	for i, b := range m.Backends {
		out[i] = b.Addr
	}
	return out
}
