package membership

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
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
	m.wanted = &w
	m.mu.Unlock()
	if changed {
		if err := m.saveState(state); err != nil {
			m.cfg.Log.Warn("remember managers", "err", err)
		}
	}
	m.settleSoon()
}

// settledLocked tells whether the node is what the leader wants it to be. The caller holds mu.
func (m *Membership) settledLocked() bool {
	if m.identity == nil || m.wanted == nil || m.agent == nil {
		return true // left, or not told yet
	}
	return m.roleSettledLocked() && m.trusts(m.identity, m.wanted) && m.issuedBy(m.identity, m.wanted)
}

func (m *Membership) roleSettledLocked() bool {
	if m.wanted.Role == shoal.RoleWorker {
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

// settleSoon brings the node's role about, without making the caller wait.
func (m *Membership) settleSoon() {
	m.mu.Lock()
	settled := m.settledLocked()
	m.mu.Unlock()
	if !settled {
		go m.settle()
	}
}

// settle brings about what the leader wants of the node: its role, its trust and its certificate. It tries again until it is so.
func (m *Membership) settle() {
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	settled, wanted, identity, agent := m.settledLocked(), m.wanted, m.identity, m.agent
	m.mu.Unlock()
	if settled {
		return
	}
	const limit, again = time.Minute, time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := m.settleTrust(ctx, identity, wanted, agent); err != nil {
		m.cfg.Log.Error("renew the node's trust", "err", err)
	}
	if err := m.settleRole(ctx, wanted.Role); err != nil {
		m.cfg.Log.Error("change the node's role", "role", wanted.Role, "err", err)
	}
	time.AfterFunc(again, m.settleSoon)
}

// settleTrust takes up another root, and a certificate of it.
func (m *Membership) settleTrust(ctx context.Context, identity *ca.Identity, wanted *rpc.Welcome, agent Agent) error {
	if m.trusts(identity, wanted) && m.issuedBy(identity, wanted) {
		return nil
	}
	defer agent.Reopen()
	if !m.trusts(identity, wanted) {
		if err := identity.Trust(wanted.Trust); err != nil {
			return err
		}
	}
	if m.issuedBy(identity, wanted) {
		return nil
	}
	return m.renew(ctx)
}

// settleRole makes a worker a manager or the reverse.
func (m *Membership) settleRole(ctx context.Context, role shoal.NodeRole) error {
	m.mu.Lock()
	settled := m.roleSettledLocked()
	m.mu.Unlock()
	if settled {
		return nil
	}
	m.cfg.Log.Info("node changes its role", "role", role)
	if role == shoal.RoleWorker {
		return m.demote(ctx)
	}
	return m.promote(ctx)
}

// promote makes the node a new member of the store, whatever it was before.
func (m *Membership) promote(ctx context.Context) error {
	m.stopManager()
	if err := m.renew(ctx); err != nil {
		return err
	}
	if m.role() != shoal.RoleManager {
		return nil // the leader has changed its mind, and will say so
	}
	return m.becomeMember(ctx)
}

// role is what the node's certificate grants.
func (m *Membership) role() shoal.NodeRole {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.identity.Role()
}

// demote makes the node a worker. The leader has taken it out of the store's members, or will.
func (m *Membership) demote(ctx context.Context) error {
	if err := m.renew(ctx); err != nil {
		return err
	}
	m.stopManager()
	return nil
}

// stopManager stops the manager part and forgets its copy of the state.
func (m *Membership) stopManager() {
	m.mu.Lock()
	manager := m.manager
	m.manager = nil
	m.mu.Unlock()
	if manager != nil {
		manager.Stop()
	}
	m.removeStore(filepath.Join(m.cfg.Dir, StoreDir))
	m.mu.Lock()
	identity, locked := m.identity, m.lock != nil
	m.lock = nil
	m.mu.Unlock()
	if locked { // only managers are locked
		if err := identity.Lock(nil); err != nil {
			m.cfg.Log.Error("open the node's key", "err", err)
		}
	}
}

// renew gets a new certificate from the first manager that answers, and shows it: what the session's connection may do follows from
// the certificate that it was opened with.
func (m *Membership) renew(ctx context.Context) error {
	m.mu.Lock()
	identity, agent := m.identity, m.agent
	m.mu.Unlock()
	if agent != nil {
		defer agent.Reopen()
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		return err
	}
	return m.askManagers(ctx, func(ctx context.Context, c *rpc.Client) error {
		reply, err := c.Renew(ctx, &rpc.RenewRequest{CSR: csr})
		if err != nil {
			return err
		}
		return identity.Renew(reply.Root, reply.Cert, key)
	})
}

// askManagers asks the managers one after the other, this node not among them unless it is the only one, until one answers.
func (m *Membership) askManagers(ctx context.Context, ask func(context.Context, *rpc.Client) error) error {
	m.mu.Lock()
	identity, state := m.identity, m.state
	m.mu.Unlock()
	self := net.JoinHostPort(state.AdvertiseAddr, state.Port)
	err := errNoManagers
	for _, remote := range state.Managers {
		if remote == self && len(state.Managers) > 1 {
			continue
		}
		exchange, cancel := context.WithTimeout(ctx, joinLimit)
		err = m.dial(remote, identity.ClientTLS(), func(c *rpc.Client) error { return ask(exchange, c) })
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

var errNoManagers = errors.New("no manager is known")

// RenewCertificates replaces the node's certificate whenever half its life is over, until ctx ends.
func (m *Membership) RenewCertificates(ctx context.Context) error {
	const look, again = time.Hour, time.Minute
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		m.mu.Lock()
		identity := m.identity
		m.mu.Unlock()
		pause := look
		if identity != nil && time.Now().After(identity.RenewAt()) {
			if err := m.renew(ctx); err != nil {
				m.cfg.Log.Error("renew the node's certificate", "expires", identity.Certificate().NotAfter, "err", err)
				pause = again
			}
		}
		timer.Reset(pause)
	}
}
