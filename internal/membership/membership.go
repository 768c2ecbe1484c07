// Package membership is a node's place in a cluster: init, join, leave, promotion, certificates and the verdict on nodes. It
// reads the node's identity and the cluster, node and token objects; it writes those, and the swarm folder of its node.
package membership

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
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
	// DefaultAdvertiseAddr, optional, is the address or interface to advertise if a request names none.
	DefaultAdvertiseAddr string
	// StartProbes, optional, opens the port by which nodes of a cluster probe one another; if it cannot be had, it says so and goes on trying. StopProbes,
	// required with it, closes the port: a node outside a cluster has none.
	StartProbes func() error
	StopProbes  func()
	// Dialer connects to managers; its zero value does over TCP.
	Dialer rpc.Dialer
}

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

func (m *Membership) certificates() string { return filepath.Join(m.cfg.Dir, "certificates") }

// openProbes opens the port of probes for a node that gets a place in a cluster. Without it the node would be thought dead by the others.
func (m *Membership) openProbes() error {
	if m.cfg.StartProbes == nil {
		return nil
	}
	if err := m.cfg.StartProbes(); err != nil {
		m.closeProbes()
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("%v: the nodes of a swarm probe one another at this UDP port; free it, or start the daemon with another --probe-port", err))
	}
	return nil
}

func (m *Membership) closeProbes() {
	if m.cfg.StopProbes != nil {
		m.cfg.StopProbes()
	}
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

// Called says that a leader calls from an address, as it seems: anybody can.
func (m *Membership) Called(addr netip.Addr) {
	m.mu.Lock()
	agent := m.agent
	m.mu.Unlock()
	if agent != nil {
		agent.Called(addr)
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

// dial opens a connection for the time of one exchange.
func (m *Membership) dial(addr string, config *tls.Config, use func(*rpc.Client) error) error {
	m.mu.Lock()
	state := m.state
	m.mu.Unlock()
	client, err := m.cfg.Dialer.Dial(state.reach(addr), config)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return use(client)
}
