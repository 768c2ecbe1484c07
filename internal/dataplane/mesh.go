package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
)

// nodeState is what the table in the node's namespace was made from.
type nodeState struct {
	frame   *ruleset
	mesh    MeshPorts
	turns   map[meshTurn]bool
	tables  *tables
	targets []netip.Addr // where its own ports lead
}

// nodeTables is the key of the node's own among Plane.tables.
const nodeTables = ""

func (p *Plane) applyRules(c *Config) error {
	was := p.applied.node
	frame := nodeRules(c)
	if was != nil && was.mesh == c.Mesh && reflect.DeepEqual(was.frame, frame) {
		return nil
	}
	p.applied.node = nil
	t, err := p.tablesOf(nodeTables, p.home)
	if err != nil {
		return err
	}
	now := &nodeState{frame: frame, mesh: c.Mesh, tables: t, targets: targets(c)}
	if err := p.makeNode(was, now, len(c.Ports) > 0 || c.Ingress != nil); err != nil {
		return errors.Join(err, p.closeTables(nodeTables))
	}
	p.applied.node = now
	return nil
}

func (p *Plane) makeNode(was, now *nodeState, publishes bool) error {
	if err := p.InNode(func() error { return closeBriefly(publishes) }); err != nil {
		p.log.Warn("a busy client's connections may not be spread evenly", "err", err)
	}
	if was == nil {
		now.turns = map[meshTurn]bool{}
		rules := newRuleset()
		rules.include(now.frame)
		now.write(rules, pmap.Changes(MeshPorts{}, now.mesh))
		return now.tables.replace(p.home, rules)
	}
	now.turns = was.turns
	before, after := newRuleset(), newRuleset()
	if reflect.DeepEqual(was.frame, now.frame) {
		meshMaps(before)
		meshMaps(after)
	} else {
		before.include(was.frame)
		after.include(now.frame)
	}
	changes := pmap.Changes(was.mesh, now.mesh)
	for _, c := range changes {
		if c.Had {
			writePort(before, c.Key, c.Old)
		}
	}
	now.write(after, changes)
	if err := now.tables.change(before, after); err != nil {
		return err
	}
	gone := missing(was.targets, now.targets)
	for _, c := range changes {
		if c.Had {
			gone = append(gone, missing(c.Old.addrs(), c.New.addrs())...)
		}
	}
	return p.forget(p.home, now.tables, gone)
}

func (m *MeshPort) addrs() []netip.Addr {
	if m == nil {
		return nil
	}
	out := make([]netip.Addr, len(m.Backends))
	for i, b := range m.Backends {
		out[i] = b.Addr
	}
	return out
}

// write enters the new ports, and the turns that the table lacks for them.
func (n *nodeState) write(rs *ruleset, changes []pmap.Change[PortKey, *MeshPort]) {
	for _, c := range changes {
		if !c.Has {
			continue
		}
		writePort(rs, c.Key, c.New)
		for _, f := range families() {
			if t := meshTurnOf(f, c.Key, c.New); !n.turns[t] {
				n.turns[t] = true
				t.write(rs)
			}
		}
	}
}

// meshMaps declares what ports of the mesh are written into, in the manner of balancing.
func meshMaps(rs *ruleset) {
	rs.dict("turns", nftables.TypeInteger, nftables.TypeVerdict)
	portDict(rs, "gates")
	for _, f := range families() {
		port := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
		rs.dict(f.named("mesh"), nftables.MustConcatSetType(port...), nftables.TypeInteger).concat = true
		rs.dict(f.named("backends"), nftables.MustConcatSetType(append(port, nftables.TypeInteger)...),
			nftables.MustConcatSetType(f.data, nftables.TypeInetService)).concat = true
	}
}

// meshRules send what comes to a port of the mesh to its turn.
func meshRules(hook *ruleChain) {
	for _, f := range families() {
		lookup := &expr.Lookup{SourceRegister: 8, DestRegister: 1, IsDestRegSet: true, SetName: f.named("mesh")}
		hook.rule(f.is(), local(false), protoAndPort(), []expr.Any{lookup}, leap(1, "turns"))
	}
}

// meshTurn is to ports of the mesh what aTurn is to virtual addresses.
type meshTurn struct {
	family
	backends, lane int
}

func meshTurnOf(f family, key PortKey, port *MeshPort) meshTurn {
	t := meshTurn{family: f, backends: len(of(f, port.Backends))}
	if t.backends > 1 {
		t.lane = int(key.Port % 64)
	}
	return t
}

// of is the backends of one family.
func of(f family, backends []Backend) []Backend {
	return slices.DeleteFunc(slices.Clone(backends), func(b Backend) bool { return familyOf(b.Addr) != f })
}

func (t meshTurn) id() []byte {
	return native32(uint32(t.backends<<8 | t.lane<<1 | int(t.size/16)))
}

func (t meshTurn) name() string { return t.named(fmt.Sprintf("turn_%d_%d", t.backends, t.lane)) }

func (t meshTurn) write(rs *ruleset) {
	c := rs.chain(t.name())
	rs.sets["turns"].jump(t.id(), t.name())
	c.rule(stray(), verdict(expr.VerdictReturn))
	if t.backends == 0 {
		c.rule(refuse(unix.IPPROTO_TCP))
		c.rule(refuse(unix.IPPROTO_UDP))
		return
	}
	lookup := &expr.Lookup{SourceRegister: 8, DestRegister: 1, IsDestRegSet: true, SetName: t.named("backends")}
	c.rule(protoAndPort(), []expr.Any{turn(t.backends, 10), lookup}, dnat(t.family, 8+t.size/4))
}

// writePort enters a port into the maps that meshMaps declared.
func writePort(rs *ruleset, key PortKey, port *MeshPort) {
	at := portKey(protoNumber(key.Protocol), key.Port)
	if gated(port.Rule) {
		writeGate(rs, key, port.Rule)
	}
	for _, f := range families() {
		rs.sets[f.named("mesh")].put(at, meshTurnOf(f, key, port).id())
		for i, b := range of(f, port.Backends) {
			rs.sets[f.named("backends")].put(slices.Concat(at, native32(uint32(i))), slices.Concat(b.Addr.AsSlice(), be16(b.Port), []byte{0, 0}))
		}
	}
}

// targets is where the node itself sends connections: the backends of its own ports, and its tasks on the mesh.
func targets(c *Config) []netip.Addr {
	var out []netip.Addr
	for _, p := range c.Ports {
		for _, b := range p.Backends {
			out = append(out, b.Addr)
		}
	}
	if c.Ingress != nil {
		for _, a := range c.Ingress.LocalTasks {
			out = append(out, a)
		}
	}
	return out
}
