// Package agent carries out a node's assignments: it reads them from a manager's session, runs one state machine per task and
// gives the endpoint table to the network; what it writes back is the tasks' statuses and the table version it has applied.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Config is what an agent works with. Every field is required unless it says otherwise.
type Config struct {
	Log *slog.Logger
	// Dial connects to a manager under the node's identity.
	Dial func(addr string) (*rpc.Client, error)
	// Managers is where to look for one at first.
	Managers []string
	// Welcomed is called with the leader's welcome message at the start of every session and whenever it changes.
	Welcomed func(rpc.Welcome)
	// SessionEnded, optional, is called with a manager's address when a session with it has ended, for whatever reason. It must not block.
	SessionEnded func(manager string)
	// Describe tells of the node.
	Describe  func() shoal.NodeDescription
	DataAddr  netip.Addr // optional
	ProbePort uint16
	Runtime   Runtime
	// ApplyTable applies a delta of the endpoint table and returns when the kernel has what it accepts of it. The error tells of the rest; lagging is
	// the networks on which this node may still open connections by an earlier table. As long as there are any it is called again, with the same
	// delta merged with later ones, so it must be idempotent. Whatever else the kernel has refused is its own to try again.
	ApplyTable func(context.Context, *shoal.TableDelta) (lagging []shoal.NetworkID, err error)
	// DialAPI connects to the node's own API.
	DialAPI func(context.Context) (net.Conn, error)
}

// Runtime runs the containers of tasks. The engine of the node is one; tests have another.
type Runtime interface {
	// Tasks lists the tasks that there are containers of.
	Tasks(ctx context.Context) ([]TaskContainer, error)
	// Prepare fetches the image and makes the container. Its errors are reasons to reject the task.
	Prepare(ctx context.Context, task *shoal.Task, deps Dependencies) (containerID string, err error)
	// Start starts a prepared container.
	Start(ctx context.Context, containerID string) (pid int, err error)
	// Healthy returns once the container is healthy and its published ports are listened on, or with an error when it is not
	// or has ended. One without health check and ports is healthy at once.
	Healthy(ctx context.Context, containerID string, task *shoal.Task) error
	// Probe checks once whether a running container can serve.
	Probe(ctx context.Context, containerID string, check shoal.ReadyCheck) error
	// Wait returns when the container has ended or has become unhealthy.
	Wait(ctx context.Context, containerID string) (Exit, error)
	// Stop ends the container in the way its task asks for.
	Stop(ctx context.Context, containerID string, task *shoal.Task) error
	Remove(ctx context.Context, containerID string) error
	// Logs calls each for every line that the query asks for.
	Logs(ctx context.Context, containerID string, query shoal.LogQuery, each func(shoal.LogLine) error) error
}

// Dependencies is the objects that tasks refer to by ID. Secrets and configs are sent with the tasks, networks with the table.
type Dependencies struct {
	Secrets  map[shoal.SecretID]shoal.Secret
	Configs  map[shoal.ConfigID]shoal.Config
	Networks map[shoal.NetworkID]shoal.Network
}

// TaskContainer is a container of a task.
type TaskContainer struct {
	TaskID      shoal.TaskID
	ContainerID string
	Running     bool
	// Started tells a container that has run from one that was only prepared.
	Started bool
	PID     int
	Exit    Exit
}

// Exit is how a container ended.
type Exit struct {
	Code      int
	Unhealthy bool
	OOMKilled bool
	Err       string
}

// Agent is a node's part in the cluster.
type Agent struct {
	cfg Config

	mu       sync.Mutex // guards all below
	runners  map[shoal.TaskID]*runner
	deps     Dependencies
	reports  map[shoal.TaskID]shoal.TaskStatus // newest status of each task that has not been sent yet
	applied  *rpc.AppliedPartly                // the newest table applied and not yet reported; nil for none
	managers []string
	callers  []caller      // newest last
	session  *rpc.Client   // connection of the present session; nil without one
	changed  chan struct{} // closed and replaced when session changes
	logs     map[string]context.CancelFunc
	table    *shoal.TableDelta                 // not yet applied; nil for nothing
	networks map[shoal.NetworkID]shoal.Network // replaced, not changed

	tablesReceived, tablesApplied uint64        // how many tables, of this life of the daemon
	tablesChanged                 chan struct{} // closed and replaced when tablesApplied changes

	reopen    chan struct{} // capacity 1: the session is to be closed and opened again
	wakeSend  chan struct{} // capacity 1: there is something to send
	wakeTable chan struct{} // capacity 1: there is a table to apply
	tasks     sync.WaitGroup
}

// New makes an agent; Run starts it.
func New(cfg Config) *Agent {
	return &Agent{
		cfg:       cfg,
		runners:   map[shoal.TaskID]*runner{},
		reports:   map[shoal.TaskID]shoal.TaskStatus{},
		managers:  cfg.Managers,
		changed:   make(chan struct{}),
		logs:      map[string]context.CancelFunc{},
		reopen:    make(chan struct{}, 1),
		wakeSend:  make(chan struct{}, 1),
		wakeTable: make(chan struct{}, 1),

		tablesChanged: make(chan struct{}),
		deps:          Dependencies{Secrets: map[shoal.SecretID]shoal.Secret{}, Configs: map[shoal.ConfigID]shoal.Config{}},
	}
}

// Run keeps a session with a manager and the tasks going until ctx ends. Containers live on after it.
func (a *Agent) Run(ctx context.Context) error {
	var applying sync.WaitGroup
	applying.Go(func() { a.applyTables(ctx) })
	defer applying.Wait()
	defer a.tasks.Wait()
	var s search
	failures := sessionFailures{log: a.cfg.Log}
	for ctx.Err() == nil {
		managers := a.knownManagers()
		manager := s.next(managers)
		err := a.runSession(ctx, manager, s.connectTimeout(len(managers)))
		if ctx.Err() != nil {
			break
		}
		if _, ended := errors.AsType[*endedError](err); ended && a.cfg.SessionEnded != nil {
			a.cfg.SessionEnded(manager)
		}
		pause := s.failed(manager, err, time.Now())
		failures.note(manager, err, time.Now())
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return ctx.Err()
}

// Client waits for a session and gives the connection to its manager.
func (a *Agent) Client(ctx context.Context) (*rpc.Client, error) {
	for {
		a.mu.Lock()
		client, changed := a.session, a.changed
		a.mu.Unlock()
		if client != nil {
			return client, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *Agent) setSession(client *rpc.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session = client
	if client != nil {
		a.callers = nil
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// Reopen closes the session and opens another, so that the managers get the node's new description.
func (a *Agent) Reopen() { wake(a.reopen) }

// report queues a task's newest status for sending, whatever the order in which concurrent reports arrive here.
func (a *Agent) report(r *runner) {
	a.mu.Lock()
	a.reports[r.current().ID] = r.lastStatus()
	a.mu.Unlock()
	wake(a.wakeSend)
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// errSessionEnded says that the manager closed the session in good order.
var errSessionEnded = errors.New("the manager ended the session")
