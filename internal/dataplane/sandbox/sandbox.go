// Package sandbox makes what is inside a container's network namespace: its interfaces, the way to its DNS resolver, and the balancing of its
// connections to virtual addresses. It reads and writes the links, routes, nftables and connection tracking of these namespaces, and the far ends of
// their interfaces on bridges.
package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/conntrack"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/roundrobin"
	"github.com/shoal-dev/shoal/internal/dataplane/socketlb"
	"github.com/shoal-dev/shoal/internal/dataplane/vip"
)

// Sandboxes is the sandboxes of the node.
type Sandboxes struct {
	log   *slog.Logger
	dir   *netns.Dir
	links *netlink.Handle // in the node's namespace
	// balancer is nil where sockets cannot be balanced: then the rules do all the work.
	balancer *socketlb.Balancer

	mu          sync.Mutex             // guards what follows
	applied     map[string]*state      // by namespace name; what failed half way is not in it
	connections map[string]*connection // by namespace name
	leftovers   map[place]leftover     // of sandboxes that are gone
}

// connection is the way to a namespace's nftables and connection tracking. It stays open between changes: see nft.Table.
type connection struct {
	table *nft.Table
	flows conntrack.Table
}

func (c *connection) close() error {
	c.flows.Close()
	return c.table.Close()
}

// state is what a sandbox was made from.
type state struct {
	config  *config.Sandbox
	chains  *roundrobin.Chains
	farEnds map[string]string // names of the interfaces' far ends, by endpoint
	// hadFlows tells that there were flows before the table was made: they are not among those that it has noted as used.
	hadFlows bool
	*connection
}

// New is the sandboxes whose namespaces are pinned in the directory. links is an rtnetlink socket in the node's namespace.
func New(log *slog.Logger, dir *netns.Dir, links *netlink.Handle) *Sandboxes {
	return &Sandboxes{log: log, dir: dir, links: links, applied: map[string]*state{}, connections: map[string]*connection{}, leftovers: map[place]leftover{}}
}

// BalanceSockets makes the sandboxes' TCP connections be balanced as they are made. It must come before the first Apply. The caller closes the
// balancer after s.
func (s *Sandboxes) BalanceSockets(balancer *socketlb.Balancer) { s.balancer = balancer }

// Close lets go of the kernel, which keeps its state.
func (s *Sandboxes) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, c := range s.connections {
		errs = append(errs, c.close())
	}
	clear(s.connections)
	return errors.Join(errs...)
}

// Forget makes the next Apply look at the kernel itself.
func (s *Sandboxes) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = map[string]*state{}
}

// Len is how many sandboxes are applied.
func (s *Sandboxes) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.applied)
}

// Apply makes a sandbox as it should be, in the namespace of that name, which must exist. bridges are those that its endpoints may be on. It
// writes only what differs from what was last applied. It may be called for several sandboxes at a time.
func (s *Sandboxes) Apply(name string, want *config.Sandbox, bridges map[string]*config.Bridge) error {
	s.mu.Lock()
	was := s.applied[name]
	s.mu.Unlock()
	if was != nil && sameButServices(was.config, want) && maps.Equal(was.config.Services, want.Services) {
		return nil
	}
	if was != nil && was.config.Seed != want.Seed {
		was = nil // the order of all backends is another
	}
	s.mu.Lock()
	delete(s.applied, name)
	s.mu.Unlock()
	ns, err := s.dir.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	now, err := s.apply(name, ns, was, want, bridges)
	if err != nil {
		return errors.Join(err, s.CloseConnection(name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied[name] = now
	return nil
}

// sameButServices tells that two sandboxes differ in services at most.
func sameButServices(a, b *config.Sandbox) bool {
	return reflect.DeepEqual(a.Endpoints, b.Endpoints) && a.DNSPortTCP == b.DNSPortTCP && a.DNSPortUDP == b.DNSPortUDP && a.Seed == b.Seed
}

// serviceChanges is what differs in the services of two sandboxes.
func serviceChanges(before, after *config.Sandbox) []config.ServiceChange {
	var out []config.ServiceChange
	for network, services := range after.Services {
		out = append(out, pmap.Changes(before.Services[network], services)...)
	}
	for network, services := range before.Services {
		if _, ok := after.Services[network]; !ok {
			out = append(out, pmap.Changes(services, config.Services{})...)
		}
	}
	return out
}

// InterfaceError says that interfaces of a sandbox could not be made. All that it balances is up to date nevertheless.
type InterfaceError struct{ Err error }

// Error is the cause.
func (e *InterfaceError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InterfaceError) Unwrap() error { return e.Err }

// apply turns what the sandbox was into what it shall be; was is nil if that is not known. What it balances does not depend on its interfaces: a network
// that is broken must not keep connections on the others, or those that it still carries, going to tasks that are about to stop.
func (s *Sandboxes) apply(name string, ns *netns.Namespace, was *state, want *config.Sandbox, bridges map[string]*config.Bridge) (*state, error) {
	now := &state{config: want}
	var err error
	if now.connection, err = s.connect(name, ns); err != nil {
		return nil, err
	}
	var broken error
	if was == nil || !reflect.DeepEqual(was.config.Endpoints, want.Endpoints) {
		now.farEnds, broken = s.applyEndpoints(ns, want, bridges)
	} else {
		now.farEnds = was.farEnds
	}
	if err := s.applyBalancing(name, ns, was, now); err != nil {
		return nil, errors.Join(broken, err)
	}
	if broken != nil {
		return nil, &InterfaceError{broken}
	}
	return now, nil
}

// applyBalancing brings the sandbox's table, and what is balanced by sockets, from what it was to what it shall be.
func (s *Sandboxes) applyBalancing(name string, ns *netns.Namespace, was, now *state) error {
	if was == nil {
		return s.replaceTable(name, ns, now)
	}
	now.chains, now.hadFlows = was.chains, was.hadFlows
	changes := serviceChanges(was.config, now.config)
	if err := now.changeTable(was.config, changes); err != nil {
		return err
	}
	if s.balancer != nil {
		if err := s.balancer.Change(name, changes, now.config.Seed); err != nil {
			return err
		}
	}
	if !now.hadFlows && len(vip.RemovedBackends(changes)) > 0 {
		var err error
		if changes, err = vip.Used(now.table, changes); err != nil {
			return err
		}
	}
	return now.flows.ForgetBackends(ns, vip.RemovedBackends(changes))
}

// replaceTable writes the sandbox's table as a whole, and all that is balanced by sockets.
func (s *Sandboxes) replaceTable(name string, ns *netns.Namespace, now *state) error {
	if err := ns.Run(func() error { return conntrack.ShortenTimeWait(true) }); err != nil {
		s.log.Warn("closed connections stay tracked for long: those of a busy client may not be spread evenly", "sandbox", name, "err", err)
	}
	changes := serviceChanges(&config.Sandbox{}, now.config)
	now.chains, now.hadFlows = vip.NewChains(), !conntrack.Empty(ns)
	rules := fixedRules(now.config)
	now.addServices(rules, changes)
	if err := now.table.Replace(ns, rules); err != nil {
		return err
	}
	if s.balancer == nil {
		return nil
	}
	var cookie uint64
	err := ns.Run(func() (err error) {
		cookie, err = socketlb.NamespaceCookie()
		return err
	})
	if err != nil {
		return err
	}
	return s.balancer.Set(name, cookie, changes, now.config.Seed)
}

// changeTable commits what the changes mean for the table.
func (st *state) changeTable(was *config.Sandbox, changes []config.ServiceChange) error {
	before, after := nft.NewRuleset(), nft.NewRuleset()
	if sameButServices(st.config, was) {
		vip.Declare(before)
		vip.Declare(after)
	} else {
		before, after = fixedRules(was), fixedRules(st.config)
	}
	for _, c := range changes {
		if c.Had {
			vip.Elements(before, c.Old, was.Seed)
		}
	}
	st.addServices(after, changes)
	after.DeclareSets(before)
	return st.table.Change(before, after)
}

// addServices adds the new services, and the counters and slots that the table lacks for them.
func (st *state) addServices(rs *nft.Ruleset, changes []config.ServiceChange) {
	for _, c := range changes {
		if c.Has {
			vip.Add(rs, st.chains, c.New, st.config.Seed)
		}
	}
}

// connect is the way to the namespace's nftables and connection tracking, opened if it is not.
func (s *Sandboxes) connect(name string, ns *netns.Namespace) (*connection, error) {
	s.mu.Lock()
	c := s.connections[name]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	table, err := nft.Open(ns)
	if err != nil {
		return nil, err
	}
	c = &connection{table: table}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections[name] = c
	return c, nil
}

// CloseConnection lets go of the nftables and connection tracking of a namespace: because it ends, because another takes its name, or after an error.
func (s *Sandboxes) CloseConnection(name string) error {
	s.mu.Lock()
	c := s.connections[name]
	delete(s.connections, name)
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.close()
}

// Prune forgets the sandboxes that are not wanted. Their namespaces are left to the caller.
func (s *Sandboxes) Prune(want map[string]*config.Sandbox) error {
	s.mu.Lock()
	maps.DeleteFunc(s.applied, func(name string, st *state) bool {
		if want[name] == nil {
			s.leaveLocked(st, time.Now())
		}
		return want[name] == nil
	})
	s.mu.Unlock()
	if s.balancer == nil {
		return nil
	}
	return s.balancer.Keep(want)
}

// Names lists the sandboxes that are applied.
func (s *Sandboxes) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.applied))
	for name := range s.applied {
		names = append(names, name)
	}
	return names
}

// ResetConnections ends the sandbox's connections to dead addresses, which are by overlay. It does nothing if the sandbox is not applied. Where the
// kernel cannot close sockets, flows are forgotten nevertheless, and a log line says so.
func (s *Sandboxes) ResetConnections(name string, dead map[string][]netip.Addr) error {
	s.mu.Lock()
	st := s.applied[name]
	s.mu.Unlock()
	if st == nil {
		return nil
	}
	var addrs []netip.Addr
	for _, e := range st.config.Endpoints {
		if e.Overlay != "" {
			addrs = append(addrs, dead[e.Overlay]...)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	ns, err := s.dir.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	peers := conntrack.NewDeadPeers(addrs)
	err = st.flows.ForgetDead(ns, peers)
	closed := conntrack.CloseSockets(ns, peers)
	if errors.Is(closed, errors.ErrUnsupported) {
		s.log.Info("the kernel cannot close sockets: connections to nodes that are gone end by their own timeouts")
		closed = nil
	}
	if err := errors.Join(err, closed); err != nil {
		return fmt.Errorf("reset connections: %w", err)
	}
	return nil
}
