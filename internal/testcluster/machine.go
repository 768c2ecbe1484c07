package testcluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Machine is a machine of the test: its disk, containers and kernel, and the daemon while one runs.
type Machine struct {
	Name    string
	Addr    netip.Addr
	cluster *Cluster
	dir     string       // its disk
	blank   bool         // it has lost its disk, and has not joined again since
	nodeID  shoal.NodeID // since it joined last

	containers *containers
	kernel     *kernel

	refuse atomic.Int64 // so many writes of its store member fail

	mu      sync.Mutex    // guards all below
	daemon  *daemon       // nil while none runs
	stalled chan struct{} // closed when the daemon goes on; nil while it is not stalled
}

// stall stops the daemon, or lets it go on.
func (m *Machine) stall(stalled bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stalled != nil {
		close(m.stalled)
		m.stalled = nil
	}
	if stalled {
		m.stalled = make(chan struct{})
	}
	m.cluster.network.stall(m.Addr, stalled)
}

// awake waits as long as the machine's daemon is stalled; not beyond its end or that of ctx.
func (m *Machine) awake(ctx context.Context, dead <-chan struct{}) {
	m.mu.Lock()
	stalled := m.stalled
	m.mu.Unlock()
	if stalled == nil {
		return
	}
	select {
	case <-stalled:
	case <-dead:
	case <-ctx.Done():
	}
}

// daemon is one life of a machine's daemon: the process, as far as it belongs to the cluster.
type daemon struct {
	machine  *Machine
	members  *membership.Membership
	endpoint *endpoint
	dead     chan struct{} // closed when it is killed
	ended    chan struct{} // closed when nothing of it runs any more
	cancel   context.CancelFunc

	mu      sync.Mutex // guards replica
	replica *replica
}

func (m *Machine) newDaemon() *daemon {
	d := &daemon{
		machine: m, endpoint: m.cluster.network.endpoint(m.Addr), dead: make(chan struct{}), ended: make(chan struct{}),
	}
	log := m.cluster.log.With("machine", m.Name)
	host := swarm.New(swarm.Config{
		Log: log, StartMember: d.startMember, Listen: d.endpoint.listen,
		Runtime:  func(shoal.NodeID) agent.Runtime { return &runtime{m.containers, d.dead} },
		Describe: m.describe, ApplyTable: d.applyTable, ClearNetworks: m.kernel.clear,
		DialAPI: func(context.Context) (net.Conn, error) { return nil, fmt.Errorf("machine %s serves no API", m.Name) },
	})
	d.members = membership.New(membership.Config{
		Log: log, Dir: m.dir, Hostname: m.Name, Host: host, Dialer: rpc.Dialer{Connect: d.endpoint.connect},
	})
	return d
}

// start does what a daemon does when it starts. It returns when the node is a member of its cluster again, or when a real daemon would serve its API
// without.
func (d *daemon) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { _ = d.members.RenewCertificates(ctx) }() // until it is cancelled
	return d.members.Start(ctx)
}

// startMember implements swarm.Config.StartMember.
func (d *daemon) startMember(ctx context.Context, cfg membership.ManagerConfig) (swarm.Member, error) {
	peerURL, err := cfg.State.PeerURL()
	if err != nil {
		return nil, err
	}
	r, err := d.machine.cluster.replicated.start(ctx, memberConfig{
		name: string(cfg.Identity.NodeID()), dir: filepath.Join(cfg.Dir, membership.StoreDir), peerURL: peerURL, join: cfg.Join != nil, forceNew: cfg.ForceNew, refuse: &d.machine.refuse,
	})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replica = r
	return r, nil
}

// replicaNow is the daemon's store member; only a manager has one.
func (d *daemon) replicaNow() *replica {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replica
}

// identity is what the machine has on its disk.
func (m *Machine) identity() (*ca.Identity, error) {
	return ca.LoadIdentity(filepath.Join(m.dir, "certificates"), nil)
}

// applyTable gives a table to the kernel, unless the daemon is dead.
func (d *daemon) applyTable(ctx context.Context, delta *shoal.TableDelta) ([]shoal.NetworkID, error) {
	d.machine.awake(ctx, d.dead)
	select {
	case <-d.dead:
		<-ctx.Done()
		return nil, ctx.Err()
	default:
		return d.machine.kernel.apply(ctx, delta)
	}
}

// kill ends the daemon as kill -9 does: from now on nothing it does has an effect. Its goroutines in this process end soon after.
func (d *daemon) kill() {
	close(d.dead)
	d.mu.Lock()
	if d.replica != nil {
		d.replica.die()
	}
	d.mu.Unlock()
	d.endpoint.close()
	go d.stop()
}

// stop ends the daemon in good order.
func (d *daemon) stop() {
	d.members.Stop()
	d.cancel()
	d.endpoint.close()
	close(d.ended)
}

// describe is what the node reports of its machine: all machines are alike.
func (m *Machine) describe() shoal.NodeDescription {
	const cpus, memory = 4e9, 8 << 30
	return shoal.NodeDescription{
		Hostname:  m.Name,
		Platform:  shoal.Platform{OS: "linux", Architecture: "x86_64"},
		Resources: shoal.Resources{NanoCPUs: cpus, MemoryBytes: memory},
		Plugins:   []shoal.Plugin{{Type: "Network", Name: "overlay"}, {Type: "Volume", Name: "local"}, {Type: "Log", Name: "json-file"}},
	}
}

// running is the machine's daemon, nil while there is none.
func (m *Machine) running() *daemon {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.daemon
}

// replace sets the machine's daemon, which may be nil, and returns the one before.
func (m *Machine) replace(d *daemon) *daemon {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.daemon
	m.daemon = d
	return before
}

// Store is the machine's view of the cluster's state; nil unless it is a manager that has one.
func (m *Machine) Store() *store.Store {
	d := m.running()
	if d == nil {
		return nil
	}
	s, err := d.members.Store()
	if err != nil {
		return nil
	}
	return s
}

// Leads tells whether the machine considers itself the leader; another may have been elected already.
func (m *Machine) Leads() bool {
	d := m.running()
	if d == nil {
		return false
	}
	running, err := d.members.Manager()
	if err != nil {
		return false
	}
	manager, ok := running.(*swarm.Manager)
	return ok && manager.Leads()
}

// Epoch is that of the machine's leadership; 0 if it does not lead.
func (m *Machine) Epoch() uint64 {
	d := m.running()
	if d == nil || d.replicaNow() == nil {
		return 0
	}
	epoch, _, _ := d.replicaNow().Leader()
	return epoch
}

// Info is what `docker info` says of the machine's place; the zero value while no daemon runs.
func (m *Machine) Info() membership.Info {
	if d := m.running(); d != nil {
		return d.members.Info()
	}
	return membership.Info{}
}

// Containers is the containers on the machine.
func (m *Machine) Containers() []Container {
	m.containers.mu.Lock()
	defer m.containers.mu.Unlock()
	var all []Container
	for _, c := range m.containers.all {
		all = append(all, *c)
	}
	return all
}

// Balances tells whether the machine sends new connections to a task.
func (m *Machine) Balances(task shoal.TaskID) bool { return m.kernel.balances(task) }

// Up tells whether the machine's daemon runs.
func (m *Machine) Up() bool { return m.running() != nil }

// KeyLocked tells whether the machine's private key is encrypted on its disk.
func (m *Machine) KeyLocked() bool {
	_, err := m.identity()
	return errors.Is(err, ca.ErrLocked)
}

// Certificate is the node certificate on the machine's disk.
func (m *Machine) Certificate() *x509.Certificate {
	m.cluster.t.Helper()
	identity, err := m.identity()
	if err != nil {
		m.cluster.t.Fatalf("read the identity of %s: %v", m.Name, err)
	}
	return identity.Certificate()
}
