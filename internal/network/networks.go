// Package network is a node's networks: it gives containers their sandboxes and endpoints, publishes their ports and probes the
// nodes it sends traffic to. It reads the cluster's table as pushed by a manager and the containers' network settings, and writes a
// dataplane.Config, DNS records, the files that containers find in /etc, and the records that it needs after a restart:
// local networks below the data root, sandboxes and the last table below the exec root until the machine restarts.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Attacher asks a manager for an endpoint of a plain container on one of the cluster's networks.
type Attacher interface {
	// Attach returns what the allocator gave, and the task that stands for the attachment. An invalid addr leaves the choice
	// to the allocator.
	Attach(ctx context.Context, network, containerID string, addr netip.Addr, aliases []string) (shoal.TaskNetwork, shoal.TaskID, error)
	Detach(ctx context.Context, taskID shoal.TaskID) error
}

// Config is what Networks needs.
type Config struct {
	Log      *slog.Logger
	DataRoot string
	ExecRoot string
	Events   *events.Bus
	// AddressPools is what subnets of local networks are cut from; empty for Docker's defaults.
	AddressPools []AddressPool
	// Attacher may be nil: then plain containers cannot join cluster networks.
	Attacher Attacher
	// ProbePort is where this node answers probes; 0 for 7946.
	ProbePort uint16
	// ResolvConf is the host's; empty for /etc/resolv.conf.
	ResolvConf string
	// Program is a program that encrypts traffic where the kernel cannot: see dataplane.WireGuardProcess.
	Program string
	// Cgroup is what the node's containers' cgroups are below. If it is given and the kernel can do it, their TCP connections are
	// balanced when they are made, not packet by packet.
	Cgroup string
}

// Networks is the networks of one node. The node's namespace is the one in which New is called.
type Networks struct {
	cfg   Config
	log   *slog.Logger
	plane *dataplane.Plane
	dir   string // under the exec root
	// tunnelKey is the node's for encrypted networks.
	tunnelKey wireguard.Key
	// forwarder resolves what is in no zone.
	forwarder *dns.Forwarder

	mu            sync.Mutex // guards what follows
	localNetworks map[shoal.NetworkID]*localNetwork
	sandboxes     map[string]*containerSandbox
	directory
	tableChanged      chan struct{} // closed and replaced when a table arrives
	reservations      map[portKey]*portReservation
	reservedMeshPorts dataplane.MeshPorts // the published ports that the mesh's reservations are for
	generation        uint64              // grows with every change of the wanted state

	journalMu sync.Mutex // guards journal
	journal   journal

	repairs repairs

	applyMu           sync.Mutex // held while the kernel is brought up to date; guards appliedGeneration, applyErr
	appliedGeneration uint64     // the generation that the last Apply was for
	applyErr          error
}

// New restores the node's networks from disk and applies them: after a restart of the daemon alone the kernel already has them and nothing changes.
func New(cfg Config) (*Networks, error) {
	if len(cfg.AddressPools) == 0 {
		cfg.AddressPools = defaultPools()
	}
	if cfg.ProbePort == 0 {
		cfg.ProbePort = defaultProbePort
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	plane, err := dataplane.New(dataplane.Settings{Log: cfg.Log, Dir: filepath.Join(cfg.ExecRoot, "netns"),
		WireGuard: dataplane.WireGuardProcess{Program: cfg.Program, Dir: filepath.Join(cfg.ExecRoot, "wireguard")}})
	if err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	if cfg.Cgroup != "" {
		if err := plane.BalanceSockets(cfg.Cgroup); err != nil {
			cfg.Log.Info("connections are balanced by rules, not by sockets", "reason", err)
		}
	}
	n := &Networks{cfg: cfg, log: cfg.Log, plane: plane, dir: filepath.Join(cfg.ExecRoot, "network"),
		localNetworks: map[shoal.NetworkID]*localNetwork{}, sandboxes: map[string]*containerSandbox{}, tableChanged: make(chan struct{}),
		directory: newDirectory(dataplane.IPv6()), reservations: map[portKey]*portReservation{}, journal: journal{path: filepath.Join(cfg.ExecRoot, "network", "table.json")}}
	n.directory.log = cfg.Log
	n.forwarder = dns.NewForwarder(dns.ForwarderConfig{Log: cfg.Log, Dial: n.dial})
	for _, dir := range []string{n.dir, n.localDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make network directory: %w", err)
		}
	}
	if n.tunnelKey, err = loadKey(filepath.Join(n.dir, "wireguard.key")); err != nil {
		return nil, err
	}
	if !dataplane.IPv6() {
		cfg.Log.Info("the kernel has no IPv6, networks go without")
	}
	if err := errors.Join(n.loadLocalNetworks(), n.restoreTable(), n.loadSandboxes()); err != nil {
		return nil, err
	}
	if err := n.createPredefined(); err != nil {
		return nil, err
	}
	return n, n.converge(context.Background())
}

// Close stops the resolvers and releases the port reservations; the kernel keeps its state for the next start.
func (n *Networks) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, sb := range n.sandboxes {
		if sb.resolver != nil {
			errs = append(errs, sb.resolver.Close())
			sb.resolver = nil
		}
	}
	for _, h := range n.reservations {
		h.close()
	}
	return errors.Join(append(errs, n.plane.Close())...)
}

// Apply replaces the cluster's table. It returns when the kernel has it. A table without networks means that the node is in no
// cluster.
func (n *Networks) Apply(ctx context.Context, table shoal.Table) error {
	delta := shoal.Difference(shoal.Table{}, table)
	delta.Full = true
	return n.Update(ctx, &delta)
}

// Update changes the cluster's table. It returns when the kernel has it. The same delta may come again.
func (n *Networks) Update(ctx context.Context, delta *shoal.TableDelta) error {
	n.mu.Lock()
	if delta.Full {
		var table shoal.Table
		delta.ApplyTo(&table)
		part := shoal.Difference(n.table, table)
		delta = &part
	}
	unreachable := n.removedOnSuspects(delta)
	n.update(delta)
	close(n.tableChanged)
	n.tableChanged = make(chan struct{})
	var err error
	if len(n.table.Networks) > 0 {
		err = n.ensureGwbridgeLocked()
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if err := n.appendToJournal(delta); err != nil {
		return err
	}
	err = n.converge(ctx)
	if len(unreachable) > 0 {
		err = errors.Join(err, n.plane.ResetConnections(ctx, unreachable))
	}
	return err
}

// Table is the table in force.
func (n *Networks) Table() shoal.Table {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.Clone()
}

// converge brings kernel and resolvers to what is wanted now. Calls that come while one is at work are served by one next.
func (n *Networks) converge(ctx context.Context) error {
	n.mu.Lock()
	n.generation++
	target := n.generation
	n.mu.Unlock()
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	if n.appliedGeneration >= target {
		return n.applyErr
	}
	n.mu.Lock()
	now := n.generation
	config := n.planLocked()
	scopes, zones := n.scopesLocked(), n.records.pendingUpdates()
	n.mu.Unlock()
	// One Apply serves several callers: the first one's cancellation must not stop it half-way.
	n.applyErr = n.plane.Apply(context.WithoutCancel(ctx), config)
	n.appliedGeneration = now
	for _, z := range zones {
		z.zone.Update(z.put, slices.Collect(maps.Keys(z.del)))
	}
	for resolver, scope := range scopes {
		resolver.Set(scope)
	}
	return n.applyErr
}

// sandboxError is the part of an Apply's error that concerns the sandbox; the rest is logged.
func (n *Networks) sandboxError(err error, namespace string) error {
	if err == nil {
		return nil
	}
	var parts interface{ Unwrap() []error }
	if !errors.As(err, &parts) {
		return err
	}
	var mine error
	for _, e := range parts.Unwrap() {
		var part *dataplane.PartError
		if errors.As(e, &part) && part.Part == "sandbox "+namespace {
			mine = errors.Join(mine, part.Err)
			continue
		}
		n.log.Warn("part of the network could not be applied", "err", e)
	}
	return mine
}

func (n *Networks) dial(proto, addr string) (net.Conn, error) {
	var conn net.Conn
	err := n.plane.InNode(func() (err error) {
		conn, err = net.Dial(proto, addr)
		return err
	})
	return conn, err
}
