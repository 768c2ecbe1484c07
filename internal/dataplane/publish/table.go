// Package publish publishes ports on the node: those of its own containers and those of the routing mesh, with their source filters. It owns the
// node's nftables table, of which other packages write rules too, and the node's connection tracking. It reads and writes these two.
package publish

import (
	"errors"
	"log/slog"
	"net/netip"
	"reflect"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/conntrack"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/roundrobin"
)

// Table is the node's nftables table. It is not safe for concurrent use.
type Table struct {
	log  *slog.Logger
	node *netns.Namespace
	name string // in nftables

	table   *nft.Table // nil until it is needed, and after an error
	flows   conntrack.Table
	applied *state // nil if what the kernel has is not known
}

// state is what the table was made from.
type state struct {
	fixed   *nft.Ruleset // all but the single ports of the mesh
	mesh    config.MeshPorts
	chains  *roundrobin.Chains
	targets []netip.Addr // where the node itself sends connections
}

type meshChange = pmap.Change[config.PortKey, *config.MeshPort]

// New is the table of a name in the node's namespace.
func New(log *slog.Logger, node *netns.Namespace, name string) *Table {
	return &Table{log: log, node: node, name: name}
}

// Close lets go of the kernel, which keeps its state.
func (t *Table) Close() error {
	t.flows.Close()
	if t.table == nil {
		return nil
	}
	err := t.table.Close()
	t.table = nil
	return err
}

// Forget makes the next Apply replace the table.
func (t *Table) Forget() { t.applied = nil }

// Applied tells whether the table is known to be as it should.
func (t *Table) Applied() bool { return t.applied != nil }

// Apply makes the table hold the fixed rules, which must include what Rules adds for c.Ports, and the ports of c.Mesh. It writes only what differs from
// what was last applied. Flows to backends that are gone are forgotten.
func (t *Table) Apply(fixed *nft.Ruleset, c *config.Config) error {
	was := t.applied
	if was != nil && was.mesh == c.Mesh && reflect.DeepEqual(was.fixed, fixed) {
		return nil
	}
	t.applied = nil
	if t.table == nil {
		opened, err := nft.OpenNamed(t.node, t.name)
		if err != nil {
			return err
		}
		t.table = opened
	}
	now := &state{fixed: fixed, mesh: c.Mesh, targets: targets(c)}
	if err := t.apply(was, now, len(c.Ports) > 0 || c.Ingress != nil); err != nil {
		return errors.Join(err, t.Close())
	}
	t.applied = now
	return nil
}

func (t *Table) apply(was, now *state, publishes bool) error {
	if err := t.node.Run(func() error { return conntrack.ShortenTimeWait(publishes) }); err != nil {
		t.log.Warn("closed TCP connections stay tracked for two minutes: a client that uses a source port again within that time gets the same task "+
			"as before, or an error if the task is gone; make net.netfilter.nf_conntrack_tcp_timeout_time_wait writable for the daemon", "err", err)
	}
	if was == nil {
		return t.replace(now)
	}
	changes := pmap.Changes(was.mesh, now.mesh)
	if now.mesh.Len() == 0 && !was.chains.Empty() {
		// The last port of the mesh takes all counters with it.
		if err := t.replace(now); err != nil {
			return err
		}
	} else if err := t.change(was, now, changes); err != nil {
		return err
	}
	removed := conntrack.Removed(was.targets, now.targets)
	for _, c := range changes {
		if c.Had {
			removed = append(removed, conntrack.Removed(backendAddrs(c.Old), backendAddrs(c.New))...)
		}
	}
	return t.flows.ForgetBackends(t.node, removed)
}

// replace writes the table as a whole.
func (t *Table) replace(now *state) error {
	return t.table.Replace(t.node, now.rules())
}

// rules is the whole table, with only those counters and slots that are needed.
func (s *state) rules() *nft.Ruleset {
	s.chains = newChains()
	rules := nft.NewRuleset()
	rules.Include(s.fixed)
	s.addPorts(rules, pmap.Changes(config.MeshPorts{}, s.mesh))
	return rules
}

// change writes what is different.
func (t *Table) change(was, now *state, changes []meshChange) error {
	now.chains = was.chains
	before, after := nft.NewRuleset(), nft.NewRuleset()
	if reflect.DeepEqual(was.fixed, now.fixed) {
		declareMesh(before)
		declareMesh(after)
	} else {
		before.Include(was.fixed)
		after.Include(now.fixed)
	}
	for _, c := range changes {
		if c.Had {
			meshElements(before, c.Key, c.Old)
		}
	}
	now.addPorts(after, changes)
	after.DeclareSets(before)
	return t.table.Change(before, after)
}

// addPorts adds the new ports, and the counters and slots that the table lacks for them.
func (s *state) addPorts(rs *nft.Ruleset, changes []meshChange) {
	for _, c := range changes {
		if c.Has {
			addMeshPort(rs, s.chains, c.Key, c.New)
		}
	}
}

// targets is where the node itself sends connections: the backends of its own ports, and its tasks on the mesh.
func targets(c *config.Config) []netip.Addr {
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

// ForgetDead makes the node forget flows to dead addresses: clients that came through it are answered with a reset when they send next. It does
// nothing if there is no table, or no address.
func (t *Table) ForgetDead(addrs []netip.Addr) error {
	if t.applied == nil || len(addrs) == 0 {
		return nil
	}
	return t.flows.ForgetDead(t.node, conntrack.NewDeadPeers(addrs))
}

// Drifted looks whether others have changed the table; if so, it is forgotten. Others may change the node's nftables at any time: only then are the
// table's rules and elements counted.
func (t *Table) Drifted() bool {
	if t.applied == nil || t.intact() {
		return false
	}
	t.Forget()
	return true
}

func (t *Table) intact() bool {
	now, err := nft.Generation(t.node)
	if err != nil || now == t.table.Generation {
		return err == nil
	}
	want := (&state{fixed: t.applied.fixed, mesh: t.applied.mesh}).rules()
	t.applied.chains.WriteAll(want)
	if !t.table.Holds(want) {
		return false
	}
	t.table.Generation = now
	return true
}
