package membership

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// StoreDir is the folder, within the swarm folder, that a manager's copy of the state is kept in.
const StoreDir = "store"

// welcomed remembers what a manager says at the start of a session and whenever it changes.
func (m *Membership) welcomed(managers []string, role shoal.NodeRole) {
	m.mu.Lock()
	state, identity := m.state, m.identity
	changed := len(managers) > 0 && !slices.Equal(state.Managers, managers)
	if changed {
		state.Managers = managers
		m.state = state
	}
	m.mu.Unlock()
	if changed {
		if err := m.saveState(state); err != nil {
			m.cfg.Log.Warn("remember managers", "err", err)
		}
	}
	if identity != nil && role != "" && identity.Role() != role {
		go m.changeRole(role)
	}
}

// changeRole makes a worker a manager or the reverse, as its spec now wants.
func (m *Membership) changeRole(role shoal.NodeRole) {
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	identity := m.identity
	m.mu.Unlock()
	if identity == nil || identity.Role() == role {
		return // done already, or left
	}
	const limit = time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	m.cfg.Log.Info("node changes its role", "role", role)
	change := m.promote
	if role == shoal.RoleWorker {
		change = m.demote
	}
	if err := change(ctx); err != nil {
		m.cfg.Log.Error("change the node's role", "role", role, "err", err)
	}
}

func (m *Membership) promote(ctx context.Context) error {
	remote, err := m.renew(ctx)
	if err != nil {
		return err
	}
	return m.becomeMember(ctx, remote)
}

func (m *Membership) demote(ctx context.Context) error {
	m.mu.Lock()
	manager := m.manager
	m.mu.Unlock()
	if _, err := m.renew(ctx); err != nil {
		return err
	}
	if manager == nil {
		return nil
	}
	if err := manager.Leave(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.manager = nil
	m.mu.Unlock()
	manager.Stop()
	m.removeStore(filepath.Join(m.cfg.Dir, StoreDir))
	return nil
}

// renew gets a new certificate from the first manager that answers, and tells which one that was.
func (m *Membership) renew(ctx context.Context) (remote string, err error) {
	m.mu.Lock()
	identity, managers := m.identity, m.state.Managers
	m.mu.Unlock()
	key, csr, err := ca.NewRequest()
	if err != nil {
		return "", err
	}
	for _, remote = range managers {
		exchange, cancel := context.WithTimeout(ctx, joinLimit)
		err = dial(remote, identity.ClientTLS(), func(c *rpc.Client) error {
			reply, err := c.Renew(exchange, &rpc.RenewRequest{CSR: csr})
			if err != nil {
				return err
			}
			return identity.Renew(reply.Root, reply.Cert, key)
		})
		cancel()
		if err == nil {
			return remote, nil
		}
	}
	return "", err
}

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
			if _, err := m.renew(ctx); err != nil {
				m.cfg.Log.Error("renew the node's certificate", "expires", identity.Certificate().NotAfter, "err", err)
				pause = again
			}
		}
		timer.Reset(pause)
	}
}
