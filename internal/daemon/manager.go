package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/dispatcher"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/scheduler"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// manager is the running manager part of a node: a member of the store, the controllers, the dispatcher and the node protocol.
type manager struct {
	log        *slog.Logger
	node       shoal.NodeID
	member     *etcd.Member
	store      *store.Store
	dispatcher *dispatcher.Dispatcher
	key        []byte
	server     *grpc.Server
	cancel     context.CancelFunc
	done       chan struct{}
	stopping   sync.Once
}

// startManager opens the store and serves the node protocol until Stop.
func startManager(ctx context.Context, log *slog.Logger, bus *events.Bus, cfg membership.ManagerConfig) (*manager, error) {
	dir := filepath.Join(cfg.Dir, membership.StoreDir)
	member, err := startMember(ctx, log, dir, cfg)
	if err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, store.Config{Backend: member, Key: cfg.SealingKey, Log: log})
	if err != nil {
		member.Close()
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.State.ListenAddr)
	if err != nil {
		member.Close()
		return nil, fmt.Errorf("serve the node protocol: %w", err)
	}
	m := &manager{log: log, node: cfg.Identity.NodeID(), member: member, store: opened, key: cfg.SealingKey, done: make(chan struct{})}
	m.run(cfg.Identity, listener, bus)
	if cfg.Join != nil {
		if err := m.awaitVote(ctx); err != nil {
			m.Stop()
			return nil, err
		}
	}
	return m, nil
}

func startMember(ctx context.Context, log *slog.Logger, dir string, cfg membership.ManagerConfig) (*etcd.Member, error) {
	peerURL, err := cfg.State.PeerURL()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(peerURL)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(cfg.State.ListenAddr)
	if err != nil {
		return nil, err
	}
	config := etcd.Config{
		Dir: filepath.Join(dir, "etcd"), Name: cfg.Identity.NodeID(),
		PeerURL: peerURL, ListenURL: "https://" + net.JoinHostPort(host, u.Port()),
		TLS: &etcd.TLS{
			CertFile: filepath.Join(cfg.Identity.Dir(), ca.CertFile), KeyFile: cfg.Identity.OpenKeyFile(),
			CAFile: filepath.Join(cfg.Identity.Dir(), ca.RootFile), ServerName: ca.ManagerUnit, AllowedName: ca.ManagerUnit,
		},
		Log: log,
	}
	if cfg.Join != nil {
		config.Initial = cfg.Join.PeerURLs
	}
	const limit = time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return etcd.Start(ctx, config)
}

// protocol answers the node protocol: admission for nodes that come and go, the dispatcher for those that are there.
type protocol struct {
	*membership.Admission
	*dispatcher.Dispatcher
}

// run starts everything that belongs to the manager.
func (m *manager) run(identity *ca.Identity, listener net.Listener, bus *events.Bus) {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	verdicts := membership.NewVerdicts(m.log, m.store, m.member, dispatcher.Silence)
	m.dispatcher = dispatcher.New(dispatcher.Config{
		Log: m.log, Store: m.store, Verdicts: verdicts, Leadership: m.member, Managers: membership.Managers,
		Trust: membership.Trust,
	})
	roster := &membership.Roster{
		Log: m.log, Node: m.node, Store: m.store, Members: members{m}, Leadership: m.member, Resign: m.member.Resign,
	}
	m.server = rpc.NewServer(identity, protocol{
		&membership.Admission{Log: m.log, Store: m.store, Members: members{m}}, m.dispatcher,
	})
	loop := reconcile.New(reconcile.Config{
		Store: m.store, Leadership: m.member, Log: m.log,
		Controllers: []reconcile.Controller{
			orchestrator.New(orchestrator.Config{}), allocator.New(allocator.Config{}), scheduler.New(scheduler.Config{}),
		},
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.store.Run(ctx) })
	group.Go(func() error { return m.member.Run(ctx) })
	group.Go(func() error { return m.dispatcher.Run(ctx) })
	group.Go(func() error { return verdicts.Run(ctx) })
	group.Go(func() error { return roster.Run(ctx) })
	group.Go(func() error { return loop.Run(ctx) })
	group.Go(func() error { return m.recordMember(ctx) })
	group.Go(func() error { return publishChanges(ctx, m.store, bus) })
	group.Go(func() error { return m.server.Serve(listener) })
	group.Go(func() error {
		<-ctx.Done()
		m.server.Stop()
		return ctx.Err()
	})
	go func() {
		defer close(m.done)
		err := group.Wait()
		select {
		case <-m.member.Done():
			m.log.Info("manager has stopped: the others have taken it out")
		default:
			if err != nil && !errors.Is(err, context.Canceled) {
				m.log.Error("manager has stopped", "err", err)
			}
		}
	}()
}

// awaitVote waits until a new manager knows the cluster and has its vote.
func (m *manager) awaitVote(ctx context.Context) error {
	const limit, look = 30 * time.Second, 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		if node := m.store.View().Node(m.node); node != nil && node.Manager != nil && !m.member.Learner() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait to become a full member of the store: %w", ctx.Err())
		case <-m.member.Done():
			return errors.New("wait to become a full member of the store: it has stopped")
		case <-ticker.C:
		}
	}
}

// recordMember writes which store member this node is, as soon as the node is a manager in the store.
func (m *manager) recordMember(ctx context.Context) error {
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
	return m.store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if node := view.Node(m.node); node != nil && node.Manager != nil && node.Manager.MemberID != m.member.ID() {
			n, status := *node, *node.Manager
			status.MemberID = m.member.ID()
			n.Manager = &status
			changes.Put(&n)
		}
		return changes, nil
	})
}

// Store is the cluster's state.
func (m *manager) Store() *store.Store { return m.store }

// Stop ends the manager; its data stays.
func (m *manager) Stop() {
	m.stopping.Do(func() {
		m.cancel()
		<-m.done
		m.member.Close()
	})
}

// Done implements membership.Manager.
func (m *manager) Done() <-chan struct{} { return m.member.Done() }

// Resign implements membership.Manager.
func (m *manager) Resign() error { return m.member.Resign() }

// members is the store's membership, by node.
type members struct{ m *manager }

// Add implements membership.Members. The new member gets its vote in the background, once it has caught up.
func (s members) Add(ctx context.Context, node shoal.NodeID, peerURL string) (map[shoal.NodeID]string, error) {
	initial, err := s.m.member.Add(ctx, node, peerURL)
	if err != nil {
		return nil, err
	}
	go s.promote(peerURL) //nolint:gosec // it goes on after the request
	return initial, nil
}

func (s members) promote(peerURL string) {
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	all, err := s.m.member.Members(ctx)
	if err != nil {
		s.m.log.Error("promote a new store member", "err", err)
		return
	}
	for _, member := range all {
		if member.PeerURL == peerURL && member.Learner {
			if err := s.m.member.Promote(ctx, member.ID); err != nil {
				s.m.log.Error("promote a new store member", "member", member.ID, "err", err)
			}
		}
	}
}

// Remove implements membership.Members. A member that has not started has no name yet, but a URL.
func (s members) Remove(ctx context.Context, node shoal.NodeID) error {
	all, err := s.m.member.Members(ctx)
	if err != nil {
		return err
	}
	url := ""
	if n := s.m.store.View().Node(node); n != nil && n.Manager != nil {
		url = n.Manager.PeerURL
	}
	for _, member := range all {
		if member.Name == node || (member.Name == "" && member.PeerURL == url) {
			return s.m.member.Remove(ctx, member.ID)
		}
	}
	return nil
}

// List implements membership.Members.
func (s members) List(ctx context.Context) ([]membership.Member, error) {
	all, err := s.m.member.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]membership.Member, 0, len(all))
	for _, m := range all {
		out = append(out, membership.Member{ID: m.ID, PeerURL: m.PeerURL, Learner: m.Learner, Started: m.Name != ""})
	}
	return out, nil
}

// RemoveMember implements membership.Members.
func (s members) RemoveMember(ctx context.Context, id string) error {
	return s.m.member.Remove(ctx, id)
}

// Promote implements membership.Members.
func (s members) Promote(ctx context.Context, id string) error { return s.m.member.Promote(ctx, id) }

// Key implements membership.Members.
func (s members) Key() []byte { return s.m.key }
