// Package dataplane makes a node's kernel carry the networks it is told of: bridges, sandboxes, overlay networks, virtual
// addresses, published ports and the routing mesh. It reads a Config and the kernel's state, and writes network namespaces,
// links, addresses, routes, forwarding entries and one nftables table per namespace; it keeps nothing on disk but the
// namespaces' mount points, and never touches what it did not make.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Settings is what a Plane needs.
type Settings struct {
	Log *slog.Logger
	// Dir is where namespaces are pinned; all in it belong to this Plane.
	Dir string
	// WireGuard is for kernels that have none.
	WireGuard WireGuardProcess
}

// Plane is the kernel of one node. The node's namespace is the one in which New is called.
type Plane struct {
	log  *slog.Logger
	dir  string
	home netns.NsHandle
	node *netlink.Handle
	// sockets is nil unless Balance has found it possible.
	sockets *sockets
	process WireGuardProcess

	looked bool // the links of the node were searched for leftovers; guarded by mu

	mu      sync.Mutex // held for the length of an Apply; guards applied, watches, looks
	applied applied
	watches map[string]*watch
	looks   int // for drift

	partsMu sync.Mutex // guards the maps in applied while parts are worked on in parallel, held and tables
	held    map[string]bool
	tables  map[string]*tables // by namespace; that of the node is ""
}

// applied is what the kernel is known to hold. What failed half way is forgotten, so that the next Apply looks again.
type applied struct {
	bridges   map[string]*Bridge
	overlays  map[string]*Overlay
	sandboxes map[string]*sandboxState
	ingress   *Ingress
	wire      *Wire
	node      *nodeState
}

// PartError says which part of a Config could not be applied; the others were.
type PartError struct {
	Part string // "bridge NAME", "overlay ID", "sandbox NAME", "wire", "ingress", "ports"
	Err  error
}

func (e *PartError) Error() string { return e.Part + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PartError) Unwrap() error { return e.Err }

// New returns the Plane of the namespace that the caller is in.
func New(s Settings) (*Plane, error) {
	if err := os.MkdirAll(s.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("make namespace directory: %w", err)
	}
	home, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open own namespace: %w", err)
	}
	node, err := netlink.NewHandleAt(home, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	p := &Plane{log: s.Log, dir: s.Dir, home: home, node: node, process: s.WireGuard, held: map[string]bool{}, tables: map[string]*tables{}, watches: map[string]*watch{}}
	p.Forget()
	return p, nil
}

// Close lets go of the handles; the kernel keeps its state.
func (p *Plane) Close() error {
	p.node.Close()
	err := p.home.Close()
	for _, t := range p.tables {
		err = errors.Join(err, t.close())
	}
	for _, w := range p.watches {
		err = errors.Join(err, w.close())
	}
	if p.sockets != nil {
		err = errors.Join(err, p.sockets.close())
	}
	return err
}

// Balance makes the TCP connections of processes below the cgroup go to their backends without translation of packets. It must come
// before the first Apply. It fails where the kernel cannot do it; then the sandboxes' rules do the work.
func (p *Plane) Balance(cgroup string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	opened, err := openSockets(cgroup)
	if err != nil {
		return err
	}
	p.sockets = opened
	return nil
}

// Forget makes the next Apply look at the kernel itself instead of at what was applied before.
func (p *Plane) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked = false
	p.applied = applied{bridges: map[string]*Bridge{}, overlays: map[string]*Overlay{}, sandboxes: map[string]*sandboxState{}}
}

// Namespace returns the path of the named namespace, which it makes if there is none. It is kept, even while no Config has it,
// until Release.
func (p *Plane) Namespace(name string) (string, error) {
	p.partsMu.Lock()
	p.held[name] = true
	p.partsMu.Unlock()
	path := p.path(name)
	if pinned(path) {
		return path, nil
	}
	return path, errors.Join(p.closeTables(name), create(p.home, path))
}

// Release lets the next Apply drop the namespace if its Config does not have it.
func (p *Plane) Release(name string) {
	p.partsMu.Lock()
	defer p.partsMu.Unlock()
	delete(p.held, name)
}

func (p *Plane) isHeld(name string) bool {
	p.partsMu.Lock()
	defer p.partsMu.Unlock()
	return p.held[name]
}

// Exists tells whether there is a namespace of that name.
func (p *Plane) Exists(name string) bool { return pinned(p.path(name)) }

func (p *Plane) path(name string) string { return filepath.Join(p.dir, name) }

// Inside runs do on a thread inside the named namespace.
func (p *Plane) Inside(name string, do func() error) error {
	ns, err := netns.GetFromPath(p.path(name))
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", name, err)
	}
	defer ns.Close()
	return inNamespace(p.home, ns, do)
}

// InNode runs do on a thread inside the node's namespace.
func (p *Plane) InNode(do func() error) error { return inNamespace(p.home, p.home, do) }

const parallel = 4

// Apply makes the kernel match the config. It may be called again at any time: what is as it should be is left alone, what this
// Plane once made and the config no longer has is removed. The error joins one PartError per part that failed.
func (p *Plane) Apply(ctx context.Context, c *Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed failures
	p.applyBridges(c, &failed)
	failed.note("wire", p.applyWire(c.Wire))
	p.parallel(ctx, keys(c.Overlays), func(id string) {
		failed.note("overlay "+id, p.applyOverlay(c.Overlays[id]))
	})
	failed.note("ingress", p.applyIngress(c.Ingress))
	p.parallel(ctx, keys(c.Sandboxes), func(name string) {
		failed.note("sandbox "+name, p.applySandbox(name, c.Sandboxes[name], c))
	})
	failed.note("ports", p.applyRules(c))
	looked := p.looked
	failed.note("prune", errors.Join(p.pruneBridges(c), p.prune(c), p.pruneWire(c.Wire, looked)))
	return errors.Join(failed.errs...)
}

// tablesOf is the namespace's tables, opened if they are not.
func (p *Plane) tablesOf(name string, ns netns.NsHandle) (*tables, error) {
	p.partsMu.Lock()
	t := p.tables[name]
	p.partsMu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := openTables(ns)
	if err != nil {
		return nil, err
	}
	p.partsMu.Lock()
	defer p.partsMu.Unlock()
	p.tables[name] = t
	return t, nil
}

// closeTables lets go of a namespace's tables: it is to end, or something went wrong half way.
func (p *Plane) closeTables(name string) error {
	p.partsMu.Lock()
	t := p.tables[name]
	delete(p.tables, name)
	p.partsMu.Unlock()
	if t == nil {
		return nil
	}
	return t.close()
}

// failures collects errors of parts that are applied in parallel.
type failures struct {
	mu   sync.Mutex // guards errs
	errs []error
}

func (f *failures) note(part string, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, &PartError{part, err})
}

func (p *Plane) parallel(ctx context.Context, names []string, do func(string)) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, name := range names {
		g.Go(func() error {
			if ctx.Err() == nil {
				do(name)
			}
			return nil
		})
	}
	_ = g.Wait() // do reports its own errors
}

// prune drops the namespaces and bridges that the config does not have.
func (p *Plane) prune(c *Config) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if _, ok := c.Sandboxes[name]; ok || overlayWanted(c, name) || p.isHeld(name) {
			continue
		}
		errs = append(errs, p.closeWatch(strings.TrimPrefix(name, overlayPrefix)), removeTunnel(p.path(name)), p.closeTables(name), drop(p.path(name)))
	}
	for id := range p.applied.overlays {
		if c.Overlays[id] == nil {
			delete(p.applied.overlays, id)
		}
	}
	for name := range p.applied.sandboxes {
		if _, ok := c.Sandboxes[name]; !ok {
			delete(p.applied.sandboxes, name)
		}
	}
	if p.sockets != nil {
		errs = append(errs, p.sockets.keep(c.Sandboxes))
	}
	return errors.Join(errs...)
}
