// Package network is a node's networks: it gives containers their sandboxes and endpoints, publishes their ports and probes the
// nodes it sends traffic to. It reads the cluster's table as pushed by a manager and the containers' network settings, and writes a
// dataplane.Config, DNS records, the files that containers find in /etc, and the records that it needs after a restart:
// local networks below the data root, sandboxes and the last table below the exec root until the machine restarts. Networks, the only
// type that others use, composes the packages below it; docs/network.md has a table of them.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/network/diagnosis"
	"github.com/shoal-dev/shoal/internal/network/directory"
	"github.com/shoal-dev/shoal/internal/network/host"
	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/network/local"
	"github.com/shoal-dev/shoal/internal/network/names"
	"github.com/shoal-dev/shoal/internal/network/plan"
	"github.com/shoal-dev/shoal/internal/network/ports"
	"github.com/shoal-dev/shoal/internal/network/probe"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Attacher asks a manager for an endpoint of a plain container on one of the cluster's networks.
type Attacher interface {
	// Attach returns what the allocator gave, and the task that stands for the attachment. An invalid addr leaves the choice
	// to the allocator.
	Attach(ctx context.Context, network, containerID string, addr netip.Addr, aliases []string) (shoal.TaskNetwork, shoal.TaskID, error)
	// Detach gives the endpoint back.
	Detach(ctx context.Context, taskID shoal.TaskID) error
}

// AddressPool is a range that subnets of a size are cut from.
type AddressPool = ipam.Pool

// Config is what Networks needs.
type Config struct {
	Log *slog.Logger // required
	// DataRoot and ExecRoot are the folders of what stays and of what is gone after a restart of the machine. Both are required.
	DataRoot string
	ExecRoot string
	// Events is where networks that come and go are published; nil for nowhere.
	Events *events.Bus
	// AddressPools is what subnets of local networks are cut from; empty for Docker's defaults.
	AddressPools []AddressPool
	// Defaults is what the node's settings say for containers and networks that do not say it themselves.
	Defaults Defaults
	// Attacher may be nil: then plain containers cannot join cluster networks.
	Attacher Attacher
	// Quarantine takes malformed records.
	Quarantine *quarantine.Quarantine
	// ProbePort is where this node answers probes between StartProbes and StopProbes; 0 for 7946.
	ProbePort uint16
	// Called, optional, is told of addresses from which a leader calls, as it seems: anybody can. It must not wait.
	Called func(netip.Addr)
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
	cfg       Config
	log       *slog.Logger
	plane     *dataplane.Plane
	host      host.Host
	owns      ownership
	records   sandbox.Records // on disk
	journal   *directory.Journal
	tunnelKey wireguard.Key  // the node's for encrypted networks
	forwarder *dns.Forwarder // resolves what is in no zone
	repairs   diagnosis.Repairs

	probing probing

	mu           sync.Mutex // guards what follows
	local        *local.Networks
	sandboxes    *sandbox.Set
	directory    *directory.Directory
	names        *names.Records
	ports        *ports.Reservations
	planner      plan.Planner  // of the config, from all of these
	tableChanged chan struct{} // closed and replaced when a table arrives
	generation   uint64        // grows with every change of the wanted state

	applyMu           sync.Mutex // held while the kernel is brought up to date; guards what follows
	appliedGeneration uint64     // the generation that the last Apply was for
	applyErr          error
	retryPause        time.Duration // before what failed is applied again; 0 if nothing did
	retryAt           time.Time
}

// New restores the node's networks from disk and applies them: after a restart of the daemon alone the kernel already has them and nothing changes. What
// cannot be restored or applied is no error but among the Problems, and is tried again; an error means that the node cannot have networks at all.
func New(cfg Config) (*Networks, error) {
	if len(cfg.AddressPools) == 0 {
		cfg.AddressPools = ipam.DefaultPools()
	}
	if cfg.Called == nil {
		cfg.Called = func(netip.Addr) {}
	}
	if cfg.ProbePort == 0 {
		cfg.ProbePort = probe.DefaultPort
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	owns, err := findOwner(cfg.ExecRoot)
	if err != nil {
		return nil, err
	}
	plane, err := dataplane.New(dataplane.Settings{Log: cfg.Log, Owner: owns.owner, Dir: filepath.Join(cfg.ExecRoot, "netns"),
		WireGuard: dataplane.WireGuardProcess{Program: cfg.Program, Dir: filepath.Join(cfg.ExecRoot, "wireguard")}})
	if err != nil {
		owns.close()
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	if cfg.Cgroup != "" {
		if err := plane.BalanceSockets(cfg.Cgroup); err != nil {
			cfg.Log.Info("connections are balanced by rules, not by sockets", "reason", err)
		}
	}
	ipv6 := dataplane.IPv6()
	if !ipv6 {
		cfg.Log.Info("the kernel has no IPv6, networks go without")
	}
	n := &Networks{cfg: cfg, log: cfg.Log, plane: plane, owns: owns, host: host.Host{InNode: plane.InNode, Owner: owns.owner}, records: sandbox.Records(filepath.Join(cfg.ExecRoot, "network")),
		sandboxes: sandbox.NewSet(), names: names.New(ipv6), ports: ports.New(cfg.Log, plane.InNode), tableChanged: make(chan struct{}), probing: probing{changed: make(chan struct{})}}
	n.directory = directory.New(directory.Config{Log: cfg.Log, IPv6: ipv6, Records: n.names})
	n.forwarder = dns.NewForwarder(dns.ForwarderConfig{Log: cfg.Log, Dial: n.dial})
	if err := n.restore(ipv6); err != nil {
		return nil, err
	}
	if err := n.converge(context.Background()); err != nil { // Run tries it again
		n.logFailure(err)
	}
	return n, nil
}

// restore reads what is on disk.
func (n *Networks) restore(ipv6 bool) (err error) {
	dir := string(n.records)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make network directory: %w", err)
	}
	if n.tunnelKey, err = n.loadKey(filepath.Join(dir, "wireguard.key")); err != nil {
		return err
	}
	n.local, err = local.Open(local.Config{SetAside: n.cfg.Quarantine.SetAside, Retry: n.retryLocked, Dir: filepath.Join(n.cfg.DataRoot, "network"), Pools: n.cfg.AddressPools, IPv6: ipv6, Host: n.host,
		DefaultBridge: n.defaultBridge(), DefaultOptions: n.cfg.Defaults.NetworkOptions})
	if err != nil {
		return err
	}
	n.planner = plan.Planner{Log: n.log, Local: n.local, Directory: n.directory, Sandboxes: n.sandboxes, Key: n.tunnelKey, DirectRouting: n.cfg.Defaults.DirectRouting, IPv6: ipv6, PathMTU: n.plane.PathMTU}
	journal, table, err := directory.OpenJournal(filepath.Join(dir, "table.json"))
	if err != nil {
		n.log.Warn("the last table of the cluster's networks cannot be restored; a manager sends it again", "err", err)
	}
	n.journal = journal
	delta := shoal.Difference(n.directory.Table(), table)
	n.directory.Update(&delta)
	n.restoreSandboxes()
	create := func() error { return n.local.CreatePredefined(n.directory.Subnets(), n.hasContainers) }
	if err := create(); errdefs.IsInvalidArgument(err) {
		return err // the settings cannot be followed
	} else if err != nil {
		n.retryLocked("predefined networks", err, create)
	}
	return nil
}

// retryLocked has something tried again until it succeeds, with n.mu held, and then applied.
func (n *Networks) retryLocked(part string, cause error, try func() error) {
	n.cfg.Quarantine.Retry(part, cause, func(ctx context.Context) error {
		if err := n.locked(try); err != nil {
			return err
		}
		if err := n.converge(ctx); err != nil {
			n.logFailure(err)
		}
		return nil
	})
}

// locked calls f with n.mu held, which is given back even if f panics.
func (n *Networks) locked(f func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return f()
}

// Close stops the resolvers and releases the port reservations; the kernel keeps its state for the next start, unless nothing uses it and it is that of one more
// daemon in the namespace: its default bridges take address pools from the others, and nobody else would ever remove them.
func (n *Networks) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	if !n.owns.isFirst() && !n.hasSandboxes() {
		errs = append(errs, n.plane.Apply(context.Background(), &dataplane.Config{}))
	}
	for _, sb := range n.sandboxes.All() {
		if sb.Resolver != nil {
			errs = append(errs, sb.Resolver.Close())
			sb.Resolver = nil
		}
	}
	n.ports.Close()
	n.owns.close()
	return errors.Join(append(errs, n.plane.Close())...)
}

func (n *Networks) hasSandboxes() bool {
	for range n.sandboxes.All() {
		return true
	}
	return false
}

// TunnelKey is the public key by which other nodes encrypt what they send here.
func (n *Networks) TunnelKey() string { return n.tunnelKey.PublicKey().String() }

// dial opens a connection from the node's namespace.
func (n *Networks) dial(proto, addr string) (net.Conn, error) {
	var conn net.Conn
	err := n.plane.InNode(func() (err error) {
		conn, err = net.Dial(proto, addr)
		return err
	})
	return conn, err
}
