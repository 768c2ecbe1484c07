// Package membership is a node's place in a cluster: init, join, leave, promotion, certificates and the verdict on nodes. It
// reads the node's identity and the cluster, node and token objects; it writes those, and the swarm folder of its node.
package membership

import (
	"context"
	"crypto/tls"
	"encoding/json"
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

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what a Membership works with; every field is required unless it says otherwise.
type Config struct {
	Log *slog.Logger
	// Dir is the swarm folder.
	Dir      string
	Hostname string
	Host     Host
	// SetAside, optional, moves a file or folder that cannot be used to where it is kept; without it, it is deleted.
	SetAside func(path string, cause error) error
	// Dialer connects to managers; its zero value does over TCP.
	Dialer rpc.Dialer
}

// Host runs the parts of a node that belong to a cluster. They run until they are stopped, not until a context ends.
type Host interface {
	// StartManager opens or founds the store and serves the node protocol.
	StartManager(ctx context.Context, cfg ManagerConfig) (Manager, error)
	// StartAgent keeps a session with a manager and runs the node's tasks.
	StartAgent(cfg AgentConfig) (Agent, error)
	// Forget removes the tasks' containers and the cluster's networks from the node.
	Forget(ctx context.Context) error
}

// ManagerConfig is what a manager starts with.
type ManagerConfig struct {
	Identity *ca.Identity
	State    State
	Dir      string
	// Join is set when the manager joins others. Otherwise it starts again what is in Dir or, if Found is set, founds a cluster.
	Join  *rpc.MemberReply
	Found bool
	// ForceNew makes the manager the only one, with what is in Dir.
	ForceNew bool
	// Import is written to the store, which must be empty, before anything else runs.
	Import []store.Record
	// SealingKey seals secrets in the store.
	SealingKey []byte
}

// Manager is the running manager part.
type Manager interface {
	Store() *store.Store
	// Done is closed when the manager has stopped, be it by Stop, because the other managers took this one out or because a part of it failed. Err is
	// why: store.ErrRemoved, the failure, or nil.
	Done() <-chan struct{}
	Err() error
	// Problems describes, a sentence each, what the manager can not do at present.
	Problems() []string
	// Resign hands leadership to another manager, if this one leads.
	Resign() error
	Stop()
}

// AgentConfig is what an agent starts with.
type AgentConfig struct {
	Identity *ca.Identity
	State    State
	Dir      string
	Dial     func(addr string) (*rpc.Client, error)
	Welcomed func(rpc.Welcome)
}

// Agent is the running agent part.
type Agent interface {
	// Client waits for a session and gives its connection.
	Client(ctx context.Context) (*rpc.Client, error)
	// Reopen begins the session anew, because the node's trust or certificate has changed.
	Reopen()
	// Withdraw takes the task of a container out of every balancer.
	Withdraw(ctx context.Context, container string)
	Stop()
}

// State is what a node remembers of its cluster besides its identity.
type State struct {
	// AdvertiseAddr and Port are where other nodes reach the node protocol.
	AdvertiseAddr netip.Addr
	// Interface is the interface that had AdvertiseAddr when the node got its place; empty if none had, as behind NAT.
	Interface string `json:",omitempty"`
	// ListenAddr is where the node serves the node protocol while it is a manager.
	ListenAddr netip.AddrPort
	Port       string // decimal
	// DataPathAddr is where the node's VXLAN packets go; not valid for AdvertiseAddr.
	DataPathAddr netip.Addr
	// Managers is where managers serve the node protocol, as last heard: "host:port".
	Managers []string
}

// PeerURL is where a manager's store member is reached: the port after that of the node protocol.
func (s State) PeerURL() (string, error) { return nextPort(s.AdvertiseAddr.String(), s.Port) }

// NodeAddr is where other nodes reach the node protocol: "host:port".
func (s State) NodeAddr() string { return net.JoinHostPort(s.AdvertiseAddr.String(), s.Port) }

// Membership is the node's place in a cluster, or its lack of one.
type Membership struct {
	cfg Config

	op operation // held during init, join, leave and changes of role

	mu          sync.Mutex // guards all below
	identity    *ca.Identity
	state       State
	manager     Manager
	agent       Agent
	failure     error
	pending     bool
	cancelStart context.CancelFunc // ends the attempts to start a manager that waits for others; may be nil
	startErr    error              // why the manager could not be started last; nil once it runs
	retryPause  time.Duration      // before the next attempt to take over what the leader asks for; 0 after a success
	lastWelcome *rpc.Welcome       // what the leader said last
	lock        ca.LockKey         // of this node's files; nil while they are open
	locked      bool               // the key is missing
	unlocks     chan chan error    // asks a locked node to try again
}

// New makes a node's membership; Start resumes what the folder says.
func New(cfg Config) *Membership { return &Membership{cfg: cfg, op: make(operation, 1)} }

// operation is a lock for what takes long. It is a channel and no sync.Mutex because it is held while other nodes are waited for:
// testing/synctest lets time pass while goroutines wait for a channel, but not while one waits for a mutex.
type operation chan struct{}

func (o operation) Lock()   { o <- struct{}{} }
func (o operation) Unlock() { <-o }

// Docker's words for calls that do not fit the node's place.
var (
	errNoSwarm     = errdefs.ErrUnavailable.WithMessage("This node is not part of a swarm")
	errSwarmExists = errdefs.ErrUnavailable.WithMessage("This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.")
	// ErrNotInSwarm answers cluster calls on a node outside of any cluster.
	errNotInSwarm = errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	errNotManager = errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.")
	errLastLeaves = errdefs.ErrUnavailable.WithMessage("You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.")
)

// Info is the node's place as `docker info` tells it.
type Info struct {
	// State is inactive, pending, active, locked or error.
	State     string
	NodeID    shoal.NodeID
	NodeAddr  netip.Addr // not valid outside of a cluster
	IsManager bool
	Managers  []string
	Err       string
}

// Info tells the node's place.
func (m *Membership) Info() Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := Info{State: "inactive"}
	if m.failure != nil {
		return Info{State: "error", Err: m.failure.Error()}
	}
	if m.locked {
		return Info{State: "locked"}
	}
	if m.identity == nil {
		if m.pending {
			info.State = "pending"
		}
		return info
	}
	info.State = "active"
	if m.agent == nil {
		info.State = "pending"
	}
	info.NodeID, info.NodeAddr = m.identity.NodeID(), m.state.AdvertiseAddr
	info.IsManager, info.Managers = m.identity.Role() == shoal.RoleManager, m.state.Managers
	return info
}

// Store gives a manager's store; on other nodes the error is what Docker tells the user.
func (m *Membership) Store() (*store.Store, error) {
	manager, err := m.Manager()
	if err != nil {
		return nil, err
	}
	return manager.Store(), nil
}

// Manager gives the manager part that runs on this node; on other nodes the error is what Docker tells the user.
func (m *Membership) Manager() (Manager, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.manager != nil && !isDone(m.manager):
		return m.manager, nil
	case m.manager != nil && m.manager.Err() != nil && !errors.Is(m.manager.Err(), store.ErrRemoved):
		return nil, stopped(m.manager.Err())
	case m.locked:
		return nil, errLocked
	case m.identity != nil && m.identity.Role() == shoal.RoleManager && m.startErr != nil && !waiting(m.startErr):
		return nil, stopped(m.startErr)
	case m.identity != nil && m.identity.Role() == shoal.RoleManager:
		return nil, store.ErrNoLeader // it starts, or waits for others to
	case m.identity != nil:
		return nil, errNotManager
	default:
		return nil, errNotInSwarm
	}
}

// waiting tells whether a manager could not be started because it waited for a majority for too long.
func waiting(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrNoLeader)
}

// stopped is what a user is told whose manager has failed.
func stopped(err error) error {
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("The manager of this node does not run; it is started again as soon as possible: %v. Other managers may work.", err))
}

// Problems describes, a sentence each, what of the node's place in its cluster does not work.
func (m *Membership) Problems() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	if m.failure != nil {
		all = append(all, "the node could not resume its place in the cluster: "+m.failure.Error())
	}
	if m.startErr != nil {
		all = append(all, "the node's manager cannot be started, which is tried again: "+m.startErr.Error())
	}
	if m.identity != nil && !m.identity.Valid(time.Now()) {
		all = append(all, "the node's certificate is not valid (it is valid until "+m.identity.Certificate().NotAfter.Format(time.DateTime)+"), and no manager has given it another yet")
	}
	switch {
	case m.manager == nil:
	case isDone(m.manager) && m.manager.Err() != nil:
		all = append(all, "the node's manager has stopped: "+m.manager.Err().Error())
	default:
		all = append(all, m.manager.Problems()...)
	}
	return all
}

// Withdraw takes the task of a container, if it is one's, out of every balancer before the container is ended by hand.
func (m *Membership) Withdraw(ctx context.Context, container string) {
	m.mu.Lock()
	agent := m.agent
	m.mu.Unlock()
	if agent != nil {
		agent.Withdraw(ctx, container)
	}
}

// Client gives a connection to a manager.
func (m *Membership) Client(ctx context.Context) (*rpc.Client, error) {
	m.mu.Lock()
	agent, locked := m.agent, m.locked
	m.mu.Unlock()
	if locked {
		return nil, errLocked
	}
	if agent == nil {
		return nil, errNotInSwarm
	}
	return agent.Client(ctx)
}

func (m *Membership) certificates() string { return filepath.Join(m.cfg.Dir, "certificates") }
func (m *Membership) stateFile() string    { return filepath.Join(m.cfg.Dir, "state.json") }

func (m *Membership) saveState(state State) error {
	if err := os.MkdirAll(m.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("keep cluster state: %w", err)
	}
	if err := atomicfile.WriteJSON(m.stateFile(), state, 0o600); err != nil {
		return fmt.Errorf("keep cluster state: %w", err)
	}
	return nil
}

// startWait is how long Start waits for the node's own manager, which may have to wait for others.
const startWait = 5 * time.Second

// Start takes up the place that the folder tells of. What cannot be done at once goes on until ctx ends.
func (m *Membership) Start(ctx context.Context) error {
	m.mu.Lock()
	lock := m.lock
	m.mu.Unlock()
	identity, err := ca.LoadIdentity(m.certificates(), lock)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if errors.Is(err, ca.ErrLocked) {
		m.awaitUnlock(ctx)
		return nil
	}
	if err != nil {
		return m.fail(err)
	}
	text, err := os.ReadFile(m.stateFile())
	if err != nil {
		return m.fail(fmt.Errorf("read cluster state: %w", err))
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		return m.fail(fmt.Errorf("read cluster state: %w", err))
	}
	m.followAddress(&state)
	m.mu.Lock()
	m.identity, m.state, m.locked, m.failure = identity, state, false, nil
	m.mu.Unlock()
	// The agent looks for a manager while this node's own waits for a majority.
	if err := m.startAgent(); err != nil {
		return m.fail(err)
	}
	if identity.Role() == shoal.RoleManager {
		started := make(chan struct{})
		ctx, cancel := context.WithCancel(ctx)
		m.mu.Lock()
		m.cancelStart = cancel
		m.mu.Unlock()
		go func() {
			defer close(started)
			m.resume(ctx, identity)
		}()
		select {
		case <-started:
		case <-time.After(startWait):
		}
	}
	return nil
}

// resume starts the node's manager again and again until it has a majority to work with, or is to be a manager no more.
func (m *Membership) resume(ctx context.Context, identity *ca.Identity) {
	for pause := firstRetry; ctx.Err() == nil && identity.Role() == shoal.RoleManager; pause = min(2*pause, longestRetry) {
		m.op.Lock()
		err := m.resumeOnce(ctx)
		m.op.Unlock()
		if err == nil {
			return
		}
		m.cfg.Log.Error("the node's manager cannot be started; it is tried again, and the node works as a worker until then", "err", err)
		m.reconcileSoon() //nolint:contextcheck // it may have been demoted while it was away
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (m *Membership) resumeOnce(ctx context.Context) error {
	m.mu.Lock()
	running := m.manager != nil && !isDone(m.manager)
	m.mu.Unlock()
	if running || ctx.Err() != nil {
		return nil
	}
	m.closeManager()
	return m.startAgain(ctx)
}

// fail records why the node has no place although it should.
func (m *Membership) fail(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure = err
	return err
}

// Stop ends what runs and leaves everything as it is: the node comes back to its place at the next start.
func (m *Membership) Stop() {
	m.cancelResume()
	m.op.Lock()
	defer m.op.Unlock()
	m.stop()
}

func (m *Membership) cancelResume() {
	m.mu.Lock()
	cancelStart := m.cancelStart
	m.mu.Unlock()
	if cancelStart != nil {
		cancelStart()
	}
}

func (m *Membership) stop() {
	m.mu.Lock()
	agent, manager := m.agent, m.manager
	m.agent, m.manager = nil, nil
	m.mu.Unlock()
	if agent != nil {
		agent.Stop()
	}
	if manager != nil {
		manager.Stop()
	}
}

func (m *Membership) startManager(ctx context.Context, join *rpc.MemberReply) error {
	return m.startManagerAs(ctx, ManagerConfig{Join: join})
}

// startManagerAs is startManager with some fields of the configuration; it fills in the others.
func (m *Membership) startManagerAs(ctx context.Context, cfg ManagerConfig) error {
	join := cfg.Join
	m.mu.Lock()
	identity, state := m.identity, m.state
	m.mu.Unlock()
	key, err := m.sealingKey(join)
	if err != nil {
		return fmt.Errorf("start manager: %w", err)
	}
	cfg.Identity, cfg.State, cfg.Dir, cfg.SealingKey = identity, state, m.cfg.Dir, key
	if join == nil && !identity.Valid(time.Now()) {
		if err := m.certifySelf(ctx, identity); err != nil {
			m.cfg.Log.Warn("the certificate of this manager has expired, and it cannot make itself another one; the other managers are asked", "expired", identity.Certificate().NotAfter, "err", err)
		}
	}
	manager, err := m.cfg.Host.StartManager(ctx, cfg)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.startErr = err
	if err != nil {
		return fmt.Errorf("start manager: %w", err)
	}
	m.manager = manager
	following, stop := context.WithCancel(context.Background())
	go m.followLock(following, manager, identity, key) //nolint:contextcheck // as long as the manager, not the request
	go func() {                                        //nolint:contextcheck // as above
		<-manager.Done()
		stop()
		m.managerEnded(manager, identity)
	}()
	return nil
}

// managerEnded starts a manager again that has stopped by itself, or makes it join again if the others have removed it.
func (m *Membership) managerEnded(manager Manager, identity *ca.Identity) {
	m.mu.Lock()
	current, welcomed := m.manager == manager, m.lastWelcome != nil
	m.mu.Unlock()
	if !current || welcomed {
		m.reconcileSoon() // nothing to do if it was asked to stop
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.mu.Lock()
	m.cancelStart = cancel
	m.mu.Unlock()
	m.resume(ctx, identity)
}

func (m *Membership) startAgent() error {
	m.mu.Lock()
	identity, state := m.identity, m.state
	m.mu.Unlock()
	agent, err := m.cfg.Host.StartAgent(AgentConfig{
		Identity: identity, State: state, Dir: m.cfg.Dir, Welcomed: m.welcomed,
		Dial: func(addr string) (*rpc.Client, error) { return m.cfg.Dialer.Dial(addr, identity.ClientTLS()) },
	})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = agent
	return nil
}

// dial opens a connection for the time of one exchange.
func (m *Membership) dial(addr string, config *tls.Config, use func(*rpc.Client) error) error {
	client, err := m.cfg.Dialer.Dial(addr, config)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return use(client)
}
