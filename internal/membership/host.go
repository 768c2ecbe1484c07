package membership

import (
	"context"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/store"
)

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
	// Called says that a leader calls from an address, as it seems.
	Called(addr netip.Addr)
	// Withdraw takes the task of a container out of every balancer.
	Withdraw(ctx context.Context, container string)
	Stop()
}
