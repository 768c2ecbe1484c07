package membership

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// StoreDir is the folder, within the swarm folder, that a manager's copy of the state is kept in.
const StoreDir = "store"

// welcomed remembers what the leader says at the start of a session and whenever it changes.
func (m *Membership) welcomed(w rpc.Welcome) {
	m.mu.Lock()
	state := m.state
	changed := len(w.Managers) > 0 && !slices.Equal(state.Managers, w.Managers)
	if changed {
		state.Managers = w.Managers
		m.state = state
	}
	m.lastWelcome = &w
	m.mu.Unlock()
	if changed {
		if err := m.saveState(state); err != nil {
			m.cfg.Log.Warn("addresses of managers cannot be saved; after a restart the node asks those it knew before", "err", err)
		}
	}
	m.reconcileSoon()
}

// reconciledLocked tells whether the node has the role, trust and certificate that the leader's last welcome asks for.
func (m *Membership) reconciledLocked() bool {
	if m.identity == nil || m.lastWelcome == nil || m.agent == nil {
		return true // not in a cluster, or there was no welcome yet
	}
	return m.roleReconciledLocked() && m.trusts(m.identity, m.lastWelcome) && m.issuedBy(m.identity, m.lastWelcome)
}

func (m *Membership) roleReconciledLocked() bool {
	if m.lastWelcome.Role == shoal.RoleWorker {
		return m.identity.Role() == shoal.RoleWorker && m.manager == nil
	}
	return m.identity.Role() == shoal.RoleManager && m.manager != nil && !isDone(m.manager)
}

func (m *Membership) trusts(identity *ca.Identity, w *rpc.Welcome) bool {
	return len(w.Trust) == 0 || bytes.Equal(identity.Root().CertPEM, w.Trust)
}

func (m *Membership) issuedBy(identity *ca.Identity, w *rpc.Welcome) bool {
	return len(w.Issuer) == 0 || bytes.Equal(identity.Info().CertIssuerPublicKey, w.Issuer)
}

func isDone(manager Manager) bool {
	select {
	case <-manager.Done():
		return true
	default:
		return false
	}
}

// reconcileSoon starts reconcileNode in the background if there is something to do.
func (m *Membership) reconcileSoon() {
	m.mu.Lock()
	reconciled := m.reconciledLocked()
	m.mu.Unlock()
	if !reconciled {
		go func() {
			if !fault.Do(m.cfg.Log, "role of the node", m.reconcileNode) {
				time.AfterFunc(longestRetry, m.reconcileSoon)
			}
		}()
	}
}

// reconcileNode gives the node the role, trust and certificate that the leader's last welcome asks for. What fails is tried again
// after a second.
func (m *Membership) reconcileNode() {
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	reconciled, lastWelcome, identity, agent := m.reconciledLocked(), m.lastWelcome, m.identity, m.agent
	m.mu.Unlock()
	if reconciled {
		return
	}
	const limit = time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	failed := false
	if err := m.reconcileTrust(ctx, identity, lastWelcome, agent); err != nil {
		failed = true
		m.cfg.Log.Error("the cluster's new root certificate cannot be taken over; it is tried again", "err", err)
	}
	if err := m.reconcileRole(ctx, lastWelcome.Role); err != nil {
		failed = true
		m.cfg.Log.Error("the node does not work in the role that it should have; it is tried again", "role", lastWelcome.Role, "err", err)
	}
	time.AfterFunc(m.nextRetry(failed), m.reconcileSoon)
}

// Pauses between attempts to start a manager and to take over a role.
const firstRetry, longestRetry = time.Second, 30 * time.Second

// nextRetry is how long to wait before the next attempt.
func (m *Membership) nextRetry(failed bool) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !failed {
		m.retryPause = 0
		return firstRetry
	}
	m.retryPause = min(max(2*m.retryPause, firstRetry), longestRetry)
	return m.retryPause
}

// reconcileTrust makes the node trust the cluster's present root, and gets it a certificate of the present issuer.
func (m *Membership) reconcileTrust(ctx context.Context, identity *ca.Identity, lastWelcome *rpc.Welcome, agent Agent) error {
	if m.trusts(identity, lastWelcome) && m.issuedBy(identity, lastWelcome) {
		return nil
	}
	defer agent.Reopen()
	if !m.trusts(identity, lastWelcome) {
		if err := identity.Trust(lastWelcome.Trust); err != nil {
			return err
		}
	}
	if m.issuedBy(identity, lastWelcome) {
		return nil
	}
	return m.renew(ctx)
}

// reconcileRole makes a worker a manager or the reverse.
func (m *Membership) reconcileRole(ctx context.Context, role shoal.NodeRole) error {
	m.mu.Lock()
	reconciled := m.roleReconciledLocked()
	m.mu.Unlock()
	if reconciled {
		return nil
	}
	if role != m.role() {
		m.cfg.Log.Info("node changes its role", "role", role)
	}
	if role == shoal.RoleWorker {
		return m.demote(ctx)
	}
	return m.promote(ctx)
}

// promote makes the node a member of the store. One that has been a member starts again with the data that it has, which may be the only copy: it
// becomes a new member only if the others say that they have removed it.
func (m *Membership) promote(ctx context.Context) error {
	if m.role() == shoal.RoleManager && m.hasStore() {
		removed := m.closeManager()
		if !removed {
			limited, cancel := context.WithTimeout(ctx, startWithLeader)
			err := m.startAgain(limited)
			cancel()
			if !errors.Is(err, store.ErrRemoved) && (!waiting(err) || !m.hasSession()) {
				return err
			}
			m.cfg.Log.Warn("this manager is no member of the store any more, as it seems; it asks to become one anew", "err", err)
		}
	} else {
		m.closeManager()
	}
	if err := m.renew(ctx); err != nil {
		return err
	}
	if m.role() != shoal.RoleManager {
		m.stopManager() // the role was changed meanwhile, and the node learns of that before the leader tells it
		return nil
	}
	return m.becomeMember(ctx, nil)
}

// startWithLeader is how long a manager may take to take part in the store when there is a leader already. If it takes longer, the others have most likely removed
// its member, and it cannot learn so from them.
const startWithLeader = 15 * time.Second

// hasSession tells whether the node has a session now: with a leader, and so with a majority that does without this node's member. Whatever the majority
// grants then is safe to act upon.
func (m *Membership) hasSession() bool {
	m.mu.Lock()
	agent := m.agent
	m.mu.Unlock()
	if agent == nil {
		return false
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	client, err := agent.Client(now)
	return err == nil && client != nil
}

// startAgain starts the manager with the data that the node has. If that is damaged, it is set aside, and the node becomes a member anew, once another
// manager has agreed.
func (m *Membership) startAgain(ctx context.Context) error {
	err := store.ErrNoData
	if m.hasStore() {
		err = m.startManager(ctx, nil)
	}
	gone := errors.Is(err, store.ErrNoData)
	if !gone && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	m.mu.Lock()
	m.startErr = err
	m.mu.Unlock()
	m.mu.Lock()
	alone := len(m.state.Managers) < 2
	m.mu.Unlock()
	if alone {
		return fmt.Errorf("%w; restore a backup of it with \"shoal restore\"", err)
	}
	m.cfg.Log.Error("this manager's copy of the cluster's state cannot be used; it is fetched from the other managers anew", "err", err)
	if gone {
		return m.becomeMember(ctx, nil)
	}
	return m.becomeMember(ctx, err)
}

// hasStore tells whether the node has a copy of the cluster's state: more than the key to it.
func (m *Membership) hasStore() bool {
	entries, err := os.ReadDir(filepath.Join(m.cfg.Dir, StoreDir))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return e.Name() != filepath.Base(m.sealingKeyFile()) && e.Name() != filepath.Base(m.authorityFile())
	})
}

// closeManager stops the manager part, if there is one, and leaves its data. removed means that the others have removed it from the store.
func (m *Membership) closeManager() (removed bool) {
	m.mu.Lock()
	manager := m.manager
	m.manager = nil
	m.mu.Unlock()
	if manager == nil {
		return false
	}
	manager.Stop()
	return errors.Is(manager.Err(), store.ErrRemoved)
}

// role is what the node's certificate grants.
func (m *Membership) role() shoal.NodeRole {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.identity.Role()
}

// demote makes the node a worker. The leader removes it from the store's members: see Roster.
func (m *Membership) demote(ctx context.Context) error {
	if err := m.renew(ctx); err != nil {
		return err
	}
	m.stopManager()
	return nil
}

// stopManager stops the manager part and deletes its copy of the cluster's state, because the node is to be a worker.
func (m *Membership) stopManager() {
	m.closeManager()
	m.removeStore(filepath.Join(m.cfg.Dir, StoreDir))
	m.mu.Lock()
	identity, locked := m.identity, m.lock != nil
	m.lock = nil
	m.mu.Unlock()
	if locked { // only managers are locked
		if err := identity.Lock(nil); err != nil {
			m.cfg.Log.Error("the key of a demoted manager cannot be stored unencrypted; the node asks for the unlock key at its next start", "err", err)
		}
	}
}

// askManagers calls ask with one manager after the other until it succeeds, and returns its last error. This node is left out unless
// it is the only manager.
func (m *Membership) askManagers(ctx context.Context, ask func(context.Context, *rpc.Client) error) error {
	m.mu.Lock()
	identity := m.identity
	m.mu.Unlock()
	return m.askManagersAs(ctx, identity.ClientTLS, ask)
}

// askManagersAs is askManagers with another identity than the node's, or none.
func (m *Membership) askManagersAs(ctx context.Context, as func() *tls.Config, ask func(context.Context, *rpc.Client) error) error {
	m.mu.Lock()
	state := m.state
	m.mu.Unlock()
	self := state.NodeAddr()
	err := errNoManagers
	for _, remote := range state.Managers {
		if remote == self && len(state.Managers) > 1 {
			continue
		}
		exchange, cancel := context.WithTimeout(ctx, exchangeTimeout)
		err = m.dial(remote, as(), func(c *rpc.Client) error { return ask(exchange, c) })
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

var errNoManagers = errors.New("no manager is known")
