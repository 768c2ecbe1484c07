// Package dataplane makes a node's kernel carry the networks it is told of: bridges, sandboxes, overlay networks, virtual addresses, published ports
// and the routing mesh. It reads a Config and the kernel's state, and writes network namespaces, links, addresses, routes, forwarding entries and one
// nftables table per namespace; it keeps nothing on disk but the namespaces' mount points, and never touches what it did not make.
//
// The work is done by packages below this one; a Plane orders it. Each imports only packages of lines above its own, save that publish uses mesh and
// sandbox uses overlay:
//
//	pmap, wireguard   persistent maps; control of WireGuard interfaces
//	config            the vocabulary
//	netns             namespaces and sysctls
//	rtnl, nft, conntrack   links, nftables, connection tracking
//	vxlan             forwarding and neighbour entries of VXLAN devices
//	roundrobin        counters in nftables
//	vip, socketlb     balancing of virtual addresses: by rules, by eBPF on sockets
//	bridge, overlay, encryption, mesh, publish, sandbox   the parts of a Config
//	dataplane
package dataplane

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/dataplane/bridge"
	"github.com/shoal-dev/shoal/internal/dataplane/encryption"
	"github.com/shoal-dev/shoal/internal/dataplane/mesh"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/overlay"
	"github.com/shoal-dev/shoal/internal/dataplane/publish"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/sandbox"
	"github.com/shoal-dev/shoal/internal/dataplane/socketlb"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// Settings is what a Plane needs.
type Settings struct {
	Log *slog.Logger // required
	// Dir is where namespaces are pinned. It is made if it is missing; whatever is in it belongs to this Plane and is removed if no Config has it.
	Dir string
	// Owner is the alias of the node's links and the name of its nftables table; empty for rtnl.DefaultOwner. Planes of one namespace have different ones.
	Owner string
	// WireGuard is for kernels that have none; the zero value leaves encrypted overlays without encryption there, and so without traffic.
	WireGuard WireGuardProcess
}

// Plane is the kernel of one node. The node's namespace is the one in which New is called. Its methods may be called concurrently.
type Plane struct {
	log   *slog.Logger
	node  *netns.Namespace
	links *netlink.Handle // in node
	dir   *netns.Dir

	mu         sync.Mutex // held for the length of an Apply; guards the parts, balancer and driftCalls
	bridges    *bridge.Bridges
	wireguard  *encryption.Device
	overlays   *overlay.Overlays
	mesh       *mesh.Mesh
	sandboxes  *sandbox.Sandboxes
	table      *publish.Table
	balancer   *socketlb.Balancer // nil unless BalanceSockets has found it possible
	driftCalls int

	retainedMu sync.Mutex      // guards retained
	retained   map[string]bool // namespaces that were asked for and not released
}

// New returns the Plane of the namespace that the calling thread is in. It changes nothing in the kernel, save that it pins again what an earlier life of the
// daemon has pinned out of sight; the first Apply looks at what is there.
// The caller closes it.
func New(s Settings) (*Plane, error) {
	if s.Owner == "" {
		s.Owner = rtnl.DefaultOwner
	}
	node, err := netns.Current()
	if err != nil {
		return nil, err
	}
	links, err := node.Netlink()
	if err != nil {
		return nil, errors.Join(err, node.Close())
	}
	dir, err := netns.OpenDir(s.Dir, node)
	if err != nil {
		links.Close()
		return nil, errors.Join(err, node.Close())
	}
	hidden, err := dir.PinHidden()
	if err != nil {
		s.Log.Warn("namespaces that were pinned out of the daemon's sight are not all found; networks that cannot be made because of them are named", "err", err)
	}
	if len(hidden) > 0 {
		s.Log.Info("namespaces were pinned where the daemon does not see them any more; they are used on", "namespaces", hidden)
	}
	return &Plane{log: s.Log, node: node, links: links, dir: dir, retained: map[string]bool{},
		bridges: bridge.New(node, links, s.Owner), wireguard: encryption.New(s.Log, node, links, s.Owner, s.WireGuard), overlays: overlay.New(dir, links),
		mesh: mesh.New(node, links, s.Owner), sandboxes: sandbox.New(s.Log, dir, links), table: publish.New(s.Log, node, s.Owner)}, nil
}

// Close lets go of the kernel, which keeps its state; only the balancing of sockets ends. The Plane must not be used after it.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links.Close()
	err := errors.Join(p.node.Close(), p.dir.Close(), p.table.Close(), p.sandboxes.Close(), p.overlays.Close(), p.mesh.Close())
	if p.balancer != nil {
		err = errors.Join(err, p.balancer.Close())
	}
	return err
}

// BalanceSockets makes the TCP connections of processes below the cgroup, a path in the unified hierarchy, go to their backends without translation of
// packets. It must come before the first Apply. It fails where the kernel cannot do it; then the sandboxes' rules do the work.
func (p *Plane) BalanceSockets(cgroup string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	balancer, err := socketlb.Open(cgroup)
	if err != nil {
		return err
	}
	p.balancer = balancer
	p.sandboxes.BalanceSockets(balancer)
	return nil
}

// Forget makes the next Apply look at the kernel itself instead of at what was applied before.
func (p *Plane) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bridges.Forget()
	p.wireguard.Forget()
	p.overlays.Forget()
	p.mesh.Forget()
	p.sandboxes.Forget()
	p.table.Forget()
}

// Apply makes the kernel match the config. It may be called again at any time: what is as it should be is left alone, and what a Plane of this
// directory once made and the config no longer has is removed. Parts do not depend on each other's success: the error joins one PartError per part that
// failed, and the next Apply looks at those anew. When ctx ends, overlays and sandboxes that it has not begun with are left out, without an error.
func (p *Plane) Apply(ctx context.Context, c *Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed failures
	failed.try(PartForwarding, func() error { return p.bridges.EnableForwarding(c.Bridges) })
	for _, name := range slices.Sorted(maps.Keys(c.Bridges)) {
		failed.try(bridgePart(name), func() error { return p.bridges.Apply(c.Bridges[name]) })
	}
	failed.try(PartWireGuard, func() error { return p.wireguard.Apply(c.WireGuard) })
	parallel(ctx, slices.Sorted(maps.Keys(c.Overlays)), func(id string) {
		failed.try(overlayPart(id), func() error { return p.overlays.Apply(c.Overlays[id]) })
	})
	failed.try(PartIngress, func() error { return p.mesh.Apply(c.Ingress) })
	parallel(ctx, slices.Sorted(maps.Keys(c.Sandboxes)), func(name string) {
		failed.try(sandboxPart(name), func() error { return p.sandboxes.Apply(name, c.Sandboxes[name], c.Bridges) })
	})
	failed.try(PartPorts, func() error { return p.table.Apply(nodeRules(c), c) })
	failed.try(PartPrune, func() error { return p.prune(c) })
	return errors.Join(failed.errs...)
}

// prune removes what the config does not have. The WireGuard interface goes after the overlays that used it.
func (p *Plane) prune(c *Config) error {
	err := errors.Join(p.bridges.Prune(c.Bridges), p.pruneNamespaces(c))
	p.overlays.Prune(c.Overlays)
	return errors.Join(err, p.sandboxes.Prune(c.Sandboxes), p.wireguard.Prune(c.WireGuard))
}

// parallel runs f for every name, four at a time, until ctx ends.
func parallel(ctx context.Context, names []string, f func(string)) {
	const limit = 4
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for _, name := range names {
		g.Go(func() error {
			if ctx.Err() == nil {
				f(name)
			}
			return nil
		})
	}
	_ = g.Wait() // f reports its own errors
}

// Encryption says what encrypts the node's traffic, as text for users, empty if nothing does; and when it last agreed on a session key with each peer,
// by the peer's public key, the zero time for never.
func (p *Plane) Encryption() (string, map[wireguard.Key]time.Time, error) {
	return p.wireguard.Status()
}

// PathMTU is the MTU, in bytes, of the node's interface that has the address; 1500 if none has.
func (p *Plane) PathMTU(local netip.Addr) int { return rtnl.PathMTU(p.links, local) }
