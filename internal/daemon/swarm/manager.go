package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/dispatcher"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Manager is what runs on a node because it is a manager: a member of the store, the controllers, the dispatcher and the server of the node
// protocol.
type Manager struct {
	log        *slog.Logger
	node       shoal.NodeID
	state      membership.State
	member     Member
	store      *store.Store
	dispatcher *dispatcher.Dispatcher
	nodes      *membership.NodeMonitor
	key        []byte // seals secrets in the store
	server     *grpc.Server
	cancel     context.CancelFunc
	done       chan struct{} // closed when nothing of it runs any more, except for the member
	stopping   sync.Once

	mu  sync.Mutex // guards err
	err error      // why it has stopped; nil if it was asked to
}

// StartManager implements membership.Host: it opens the store and serves the node protocol until Stop.
func (h *Host) StartManager(ctx context.Context, cfg membership.ManagerConfig) (membership.Manager, error) {
	m, err := h.startManager(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// startLimit is how long the start waits for the store member to take part in the cluster.
const startLimit = time.Minute

// startManager starts the parts of the manager in order. An error stops those that run already.
func (h *Host) startManager(ctx context.Context, cfg membership.ManagerConfig) (*Manager, error) {
	starting, cancel := context.WithTimeout(ctx, startLimit)
	member, err := h.cfg.StartMember(starting, cfg)
	cancel()
	if err != nil {
		return nil, err
	}
	if err := store.Import(ctx, member, cfg.Import); err != nil {
		member.Close()
		return nil, err
	}
	opened, err := store.Open(ctx, store.Config{Backend: member, Key: cfg.SealingKey, Log: h.cfg.Log})
	if err != nil {
		member.Close()
		return nil, err
	}
	listener, err := h.cfg.Listen(cfg.State.ListenAddr.String())
	if err != nil {
		member.Close()
		return nil, fmt.Errorf("serve the node protocol: %w", err)
	}
	m := &Manager{log: h.cfg.Log, node: cfg.Identity.NodeID(), state: cfg.State, member: member, store: opened, key: cfg.SealingKey, done: make(chan struct{})}
	m.run(cfg, listener, h.cfg)
	h.manager.Store(m)
	if cfg.Join != nil {
		if err := m.awaitVote(ctx); err != nil {
			m.Stop()
			return nil, err
		}
	}
	return m, nil
}

// protocol implements rpc.Handler: Admission has the calls of nodes that join, renew and leave, Dispatcher all others.
type protocol struct {
	*membership.Admission
	*dispatcher.Dispatcher
}

// run starts everything that goes on until Stop.
func (m *Manager) run(cfg membership.ManagerConfig, listener net.Listener, host Config) {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.nodes = membership.NewNodeMonitor(m.log, m.node, m.store, m.member, dispatcher.HeartbeatTimeout)
	if cfg.Join == nil {
		m.nodes.Restarted()
	}
	m.dispatcher = dispatcher.New(dispatcher.Config{
		Log: m.log, Store: m.store, NodeMonitor: m.nodes, Leadership: m.member, Managers: membership.Managers,
		Trust: membership.Trust,
	})
	roster := &membership.Roster{
		Log: m.log, Node: m.node, Store: m.store, Members: members{m}, Leadership: m.member, Resign: m.member.Resign,
	}
	m.server = rpc.NewServer(cfg.Identity, protocol{
		&membership.Admission{Log: m.log, Store: m.store, Identity: cfg.Identity, Members: members{m}}, m.dispatcher,
	})
	loop := reconcile.New(reconcile.Config{
		Store: m.store, Leadership: m.member, Log: m.log,
		Controllers: []reconcile.Controller{
			orchestrator.New(orchestrator.Config{}), allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
		},
	})
	group, ctx := errgroup.WithContext(ctx)
	// The parts share state, so that a fault of one stops the whole manager, which is started again with what is on its disk: see ended.
	run := func(part string, f func() error) {
		group.Go(func() error { return fault.Contain(m.log, "manager: "+part, f) })
	}
	run("copy of the state", func() error { return m.store.Run(ctx) })
	run("store member", func() error { return m.member.Run(ctx) })
	run("dispatcher", func() error { return m.dispatcher.Run(ctx) })
	run("node monitor", func() error { return m.nodes.Run(ctx) })
	run("roster", func() error { return roster.Run(ctx) })
	run("controllers", func() error { return loop.Run(ctx) })
	run("record of the store member", func() error { return m.recordMember(ctx) })
	if host.Follow != nil {
		run("events of the cluster", func() error { return host.Follow(ctx, m.store) })
	}
	if host.CallNode != nil {
		run("calls", func() error { return m.callNodes(ctx, host.CallNode) })
	}
	group.Go(func() error { return m.server.Serve(listener) })
	group.Go(func() error {
		<-ctx.Done()
		m.server.Stop()
		return ctx.Err()
	})
	go func() {
		defer close(m.done)
		m.ended(m.await(group))
	}()
}

// await waits until all parts have ended. A part that asks something of a member that has failed may wait for ever; it is left behind.
func (m *Manager) await(group *errgroup.Group) error {
	const limit = 15 * time.Second
	finished := make(chan error, 1)
	go func() { finished <- group.Wait() }()
	select {
	case err := <-finished:
		return err
	case <-m.member.Done():
	}
	select {
	case err := <-finished:
		return err
	case <-time.After(limit):
		m.log.Warn("a part of the manager waits for the store member that has failed; it is left behind")
		return errors.New("the store member does not answer")
	}
}

// ended records why the manager has stopped. A part that fails stops all of it, because the rest would work on a view that does not change any more.
func (m *Manager) ended(err error) {
	if cause := m.member.Err(); cause != nil {
		err = cause
	}
	restart := errors.Is(err, store.ErrRestart)
	if errors.Is(err, context.Canceled) || restart {
		err = nil
	}
	m.mu.Lock()
	m.err = err
	m.mu.Unlock()
	switch {
	case restart:
		m.log.Info("there is room on the disk again: the manager is started with its store")
	case errors.Is(err, store.ErrRemoved):
		m.log.Info("manager has stopped: the other managers have removed it from the store")
	case err != nil:
		m.log.Error("manager has stopped; it is started again with what it has on its disk, and the node works as a worker until then", "err", err)
	}
}

// awaitVote waits until the store of a new manager has its node and its member has a vote.
func (m *Manager) awaitVote(ctx context.Context) error {
	const limit, interval = 30 * time.Second, 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if node := m.store.View().Node(m.node); node != nil && node.Manager != nil && !m.member.Learner() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait to become a full member of the store: %w", ctx.Err())
		case <-m.member.Done():
			return fmt.Errorf("wait to become a full member of the store: it has stopped: %w", m.member.Err())
		case <-ticker.C:
		}
	}
}

// recordMember writes the ID and addresses of this node's store member into the node, as soon as the store says that the node is a manager.
func (m *Manager) recordMember(ctx context.Context) error {
	view, sub := m.store.Subscribe()
	defer sub.Close()
	for {
		if n := view.Node(m.node); n != nil && n.Manager != nil {
			break
		}
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
		view = m.store.View()
	}
	const firstPause, longestPause = 100 * time.Millisecond, 10 * time.Second
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := m.recordMemberOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		m.log.Warn("this manager's store member cannot be recorded; it is tried again, and until then agents are not led to this manager when it leads", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.member.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (m *Manager) recordMemberOnce(ctx context.Context) error {
	return m.store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		node := view.Node(m.node)
		if node == nil || node.Manager == nil {
			return changes, nil
		}
		peerURL, err := m.state.PeerURL()
		if err != nil {
			return changes, err
		}
		if now := (shoal.ManagerStatus{MemberID: m.member.ID(), Addr: m.state.NodeAddr(), PeerURL: peerURL}); *node.Manager != now {
			n := *node
			n.Manager = &now
			changes.Put(&n)
		}
		return changes, nil
	})
}

// Leads tells whether this manager is the leader. It may have been deposed without knowing yet; its writes are fenced for that.
func (m *Manager) Leads() bool {
	_, leads, _ := m.member.Leader()
	return leads
}

// Store is the cluster's state on this manager.
func (m *Manager) Store() *store.Store { return m.store }

// Stop stops the manager and waits for that. Its data stays on the disk. Further calls do nothing.
func (m *Manager) Stop() {
	m.stopping.Do(func() {
		m.cancel()
		<-m.done
		m.member.Close()
	})
}

// Done implements membership.Manager.
func (m *Manager) Done() <-chan struct{} { return m.done }

// Err implements membership.Manager.
func (m *Manager) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Problems implements membership.Manager.
func (m *Manager) Problems() []string { return m.member.Problems() }

// Resign implements membership.Manager.
func (m *Manager) Resign() error { return m.member.Resign() }
