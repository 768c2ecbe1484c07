package network

import (
	"context"
	"errors"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Apply replaces the cluster's table. It returns when the kernel has it. A table without networks means that the node is in no
// cluster.
func (n *Networks) Apply(ctx context.Context, table shoal.Table) error {
	delta := shoal.Difference(shoal.Table{}, table)
	delta.Full = true
	_, err := n.Update(ctx, &delta)
	return err
}

// Update changes the cluster's table. It returns when the kernel has what it accepts of it; the error tells of the rest, which Run tries again. Lagging is the
// networks on which this node may still open connections by an earlier table. The same delta may come again.
func (n *Networks) Update(ctx context.Context, delta *shoal.TableDelta) (lagging []shoal.NetworkID, err error) {
	var unreachable map[string][]netip.Addr
	err = n.locked(func() (err error) {
		if delta.Full {
			var table shoal.Table
			delta.ApplyTo(&table)
			part := shoal.Difference(n.directory.Table(), table)
			delta = &part
		}
		unreachable = n.directory.RemovedOnSuspects(delta)
		n.directory.Update(delta)
		close(n.tableChanged)
		n.tableChanged = make(chan struct{})
		if len(n.directory.Table().Networks) > 0 {
			_, err = n.local.EnsureGatewayBridge(n.directory.Subnets())
		}
		return err
	})
	// The journal only spares a restarted daemon work: what is not in it comes from a manager again.
	n.cfg.Quarantine.Note("record of the cluster's networks", n.journal.Append(delta, n.Table))
	refused := n.converge(ctx)
	err = errors.Join(err, refused)
	if len(unreachable) > 0 {
		err = errors.Join(err, n.plane.ResetConnections(ctx, unreachable))
	}
	return n.lagging(refused), err
}

// Table is the table in force.
func (n *Networks) Table() shoal.Table {
	n.mu.Lock()
	defer n.mu.Unlock()
	table := n.directory.Table()
	return table.Clone()
}

// HostRoutes is the subnets that the node reaches by itself, those of the cluster's networks left out: no new network of the
// cluster may overlap them.
func (n *Networks) HostRoutes() ([]netip.Prefix, error) {
	all, err := n.host.Routes()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	cluster := n.directory.Subnets()
	n.mu.Unlock()
	var out []netip.Prefix
	for _, route := range all {
		if !ipam.Overlaps(route, cluster) && route != shoal.TunnelRange() {
			out = append(out, route)
		}
	}
	return out, nil
}

// HostAddrs6 are the IPv6 addresses of the node, other than on its own networks, that reach beyond its links.
func (n *Networks) HostAddrs6() ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host.Addrs6(append(n.local.Subnets(), n.directory.Subnets()...))
}
