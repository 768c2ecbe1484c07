package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/network/diagnosis"
	"github.com/shoal-dev/shoal/internal/network/probe"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// repairPeriod is short enough that a change is repaired within two seconds.
const repairPeriod = time.Second

// Run answers and sends probes and watches the kernel for drift, until ctx ends.
func (n *Networks) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.probe(ctx) })
	g.Go(func() error { return n.repair(ctx) })
	return g.Wait()
}

// Call calls a node that has no session, at its probe port, so that it learns where the leader is.
func (n *Networks) Call(to netip.AddrPort) error { return probe.Call(n.plane.InNode, to) }

func (n *Networks) probeTargets() map[netip.AddrPort]shoal.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.directory.ProbeTargets()
}

// suspectPeers applies the set of suspected peers and logs what changed.
func (n *Networks) suspectPeers(ctx context.Context, now map[shoal.NodeID]bool) {
	before, peers := n.setSuspects(now)
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if !before[id] {
			n.log.Warn("peer does not answer, its tasks are skipped", "node", id, "address", peers[id].ProbeAddr)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if !now[id] {
			n.log.Info("peer answers again", "node", id, "address", peers[id].ProbeAddr)
		}
	}
	if err := n.converge(ctx); err != nil {
		n.logFailure(err)
	}
}

// setSuspects enters the suspected peers and returns those of before, and all peers.
func (n *Networks) setSuspects(now map[shoal.NodeID]bool) (before map[shoal.NodeID]bool, peers map[shoal.NodeID]shoal.Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before = n.directory.Suspects()
	n.directory.SetSuspects(now)
	n.generation++
	return before, maps.Clone(n.directory.Table().Peers)
}

// repair restores kernel state that other programs have changed, by comparing it every repairPeriod.
func (n *Networks) repair(ctx context.Context) error {
	tick := time.NewTicker(repairPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			fault.Do(n.log, "repair of the node's networks", func() { // what it holds of the kernel is compared again with the next tick
				_, _ = n.repairDrift(ctx, false) // logged, and listed by Diagnose
				n.retryFailed(ctx)
			})
		}
	}
}

// repairDrift compares the kernel with the applied config and restores what other programs have changed. It returns descriptions of the restored parts.
func (n *Networks) repairDrift(ctx context.Context, thorough bool) ([]string, error) {
	parts := n.plane.Drift(thorough)
	if len(parts) == 0 {
		return nil, nil
	}
	what := n.noteDrift(parts)
	n.log.Warn("kernel state of the node was changed by others, it is being restored", "parts", what)
	err := n.converge(ctx)
	if err != nil {
		n.logFailure(err)
	}
	n.repairs.Add(what, err)
	return what, err
}

// noteDrift makes the next config differ from the applied one, and describes the parts.
func (n *Networks) noteDrift(parts []string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.generation++
	return diagnosis.DescribeParts(parts, n.directory.Table().Networks, n.sandboxes)
}

// Diagnose looks at the node's networking as a whole, repairs what other programs have changed, and reports the problems found, other than Problems.
func (n *Networks) Diagnose(ctx context.Context) shoal.Diagnosis {
	repaired, _ := n.repairDrift(ctx, true) // what could not be restored is among the Problems
	d := diagnosis.Checkup{Plane: n.plane, Snapshot: n.snapshot(), Repaired: repaired}.Run(ctx)
	d.Repaired, d.Repairs = n.repairs.List()
	return d
}

// snapshot is what a diagnosis needs to know. A task that is on the routing mesh alone has no name that its resolver could be asked for.
func (n *Networks) snapshot() diagnosis.Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	table := n.directory.Table()
	s := diagnosis.Snapshot{NodeID: table.NodeID, Self: n.directory.Self(), Encrypted: n.directory.EncryptedPeers()}
	for id, p := range table.Peers {
		if id != table.NodeID && p.ProbeAddr.IsValid() {
			s.Peers = append(s.Peers, p)
		}
	}
	for _, sb := range n.sandboxes.All() {
		if sb.Active && sb.Resolver != nil && sb.Spec.Name != "" && slices.ContainsFunc(sb.Endpoints, (*sandbox.Endpoint).HasServiceDiscovery) {
			s.Resolvers = append(s.Resolvers, diagnosis.Resolver{Namespace: sb.Namespace(), Name: sb.Spec.Name})
		}
	}
	return s
}
