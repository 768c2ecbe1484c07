package dataplane

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
)

// nodeState is what the table in the node's namespace was made from.
type nodeState struct {
	frame *ruleset
	mesh  MeshPorts
	vipTable
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
		return now.replace(p.home)
	}
	changes := pmap.Changes(was.mesh, now.mesh)
	write := func() error { return now.change(was, changes) }
	if now.mesh.Len() == 0 && len(was.turns) > 0 {
		write = func() error { return now.replace(p.home) } // without ports, nothing is to be left of the mesh
	}
	if err := write(); err != nil {
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

// replace writes the table as a whole.
func (n *nodeState) replace(home netns.NsHandle) error {
	n.vipTable = newVIPTable()
	rules := newRuleset()
	rules.include(n.frame)
	n.write(rules, pmap.Changes(MeshPorts{}, n.mesh))
	return n.tables.replace(home, rules)
}

// change writes what is different.
func (n *nodeState) change(was *nodeState, changes []pmap.Change[PortKey, *MeshPort]) error {
	n.vipTable = was.vipTable
	before, after := newRuleset(), newRuleset()
	if reflect.DeepEqual(was.frame, n.frame) {
		meshMaps(before)
		meshMaps(after)
	} else {
		before.include(was.frame)
		after.include(n.frame)
	}
	for _, c := range changes {
		if c.Had {
			n.removePort(before, c.Key, c.Old)
		}
	}
	n.write(after, changes)
	after.keep(before)
	return n.tables.change(before, after)
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

// write enters the new ports, and the turns and slots that the table lacks for them.
func (n *nodeState) write(rs *ruleset, changes []pmap.Change[PortKey, *MeshPort]) {
	for _, c := range changes {
		if c.Has {
			n.addPort(rs, c.Key, c.New)
		}
	}
}

// meshMaps declares what ports of the mesh are written into, in the manner of balancing.
func meshMaps(rs *ruleset) {
	turnMaps(rs)
	portDict(rs, "gates")
	for _, f := range families() {
		rs.dict(f.named("mesh"), portType(), nftables.TypeMark).concat = true
	}
}

func portType() nftables.SetDatatype {
	return nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
}

// meshRules send what comes to a port of the mesh to its turn.
func meshRules(hook *ruleChain) {
	for _, f := range families() {
		lookup := &expr.Lookup{SourceRegister: 8, DestRegister: 1, IsDestRegSet: true, SetName: f.named("mesh")}
		takeTurn(hook, f.is(), local(false), protoAndPort(), []expr.Any{lookup})
	}
}

func meshTurn(f family, key PortKey, port *MeshPort) turn {
	t := turn{family: f, backends: len(of(f, port.Backends))}
	if t.backends > 1 {
		t.lane = (int(key.Port) + int(protoNumber(key.Protocol))) % 64 // the same port of another protocol has another
	}
	return t
}

// of is the backends of one family.
func of(f family, backends []Backend) []Backend {
	return slices.DeleteFunc(slices.Clone(backends), func(b Backend) bool { return familyOf(b.Addr) != f })
}

// removePort and addPort are what a port takes from the table when it goes, and brings.
func (n *nodeState) removePort(rs *ruleset, key PortKey, port *MeshPort) {
	at := portKey(protoNumber(key.Protocol), key.Port)
	if gated(port.Rule) {
		writeGate(rs, key, port.Rule)
	}
	for _, f := range families() {
		rs.sets[f.named("mesh")].put(at, meshTurn(f, key, port).id())
		for i, b := range of(f, port.Backends) {
			n.declareMesh(rs, slot{f, i}).put(at, slices.Concat(b.Addr.AsSlice(), be16(b.Port), []byte{0, 0}))
		}
	}
}

func (n *nodeState) addPort(rs *ruleset, key PortKey, port *MeshPort) {
	n.removePort(rs, key, port)
	for _, f := range families() {
		t := meshTurn(f, key, port)
		for _, s := range t.slots() {
			if n.slots[s] {
				continue
			}
			n.slots[s] = true
			s.write(rs, n.meshSlot(s))
		}
		if !n.turns[t] {
			n.turns[t] = true
			t.write(rs, verdict(expr.VerdictReturn))
		}
	}
}

// meshSlot is the rule that sends a connection to the backend of the number.
func (*nodeState) meshSlot(s slot) []expr.Any {
	lookup := &expr.Lookup{SourceRegister: 8, DestRegister: 1, IsDestRegSet: true, SetName: s.backends()}
	return slices.Concat(protoAndPort(), []expr.Any{lookup}, dnat(s.family, 8+s.size/4))
}

func (*nodeState) declareMesh(rs *ruleset, s slot) *ruleSet {
	if have := rs.sets[s.backends()]; have != nil {
		return have
	}
	d := rs.dict(s.backends(), portType(), nftables.MustConcatSetType(s.data, nftables.TypeInetService))
	d.concat = true
	return d
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
