package membership

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// forceNew makes this manager the only one of its cluster, with its copy of the state: the way out when a majority of the managers is lost for good. Services,
// networks, addresses, certificates and tokens stay, and so do the sessions' ends on the nodes: agents look for a manager until they find this one. Managers that
// were lost become workers in the state.
func (m *Membership) forceNew(ctx context.Context, req InitRequest) (shoal.NodeID, error) {
	m.cancelResume() // it may be waiting for the managers that are lost
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	identity, state, locked := m.identity, m.state, m.locked
	m.mu.Unlock()
	switch {
	case locked:
		return "", errLocked
	case identity == nil:
		return "", errNotInSwarm
	case identity.Role() != shoal.RoleManager || !m.hasStore():
		return "", errNotManager
	}
	if err := readdress(&state, req); err != nil {
		return "", err
	}
	state.Managers = []string{state.NodeAddr()}
	if err := m.saveIdentity(identity, state); err != nil {
		return "", err
	}
	m.cfg.Log.Warn("this manager becomes the only one of its cluster, as was asked for", "node", identity.NodeID())
	m.closeManager()
	if err := m.startManagerAs(ctx, ManagerConfig{ForceNew: true}); err != nil {
		return "", err
	}
	s, err := m.Store()
	if err != nil {
		return "", err
	}
	err = s.Update(ctx, func(view store.View) (store.Changes, error) {
		return soleManager(view, identity.NodeID(), state, req.Spec)
	})
	if err != nil {
		return "", fmt.Errorf("record that this manager is the only one: %w", err)
	}
	if m.agentMissing() {
		if err := m.startAgent(); err != nil {
			return "", err
		}
	}
	return identity.NodeID(), m.awaitSession(ctx)
}

func (m *Membership) agentMissing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent == nil
}

// readdress takes over the addresses that were asked for; without any the node keeps those that it has.
func readdress(state *State, req InitRequest) error {
	if req.AdvertiseAddr == "" {
		return nil
	}
	fresh, err := newState(req.ListenAddr, req.AdvertiseAddr, req.DataPathAddr)
	if err != nil {
		return err
	}
	if !fresh.DataPathAddr.IsValid() {
		fresh.DataPathAddr = state.DataPathAddr
	}
	*state = fresh
	return nil
}

// soleManager is what changes in the state when a node becomes the only manager. Settings that were given replace those of the cluster.
func soleManager(view store.View, self shoal.NodeID, state State, spec shoal.ClusterSpec) (store.Changes, error) {
	var changes store.Changes
	peerURL, err := state.PeerURL()
	if err != nil {
		return changes, err
	}
	for _, node := range view.Nodes() {
		n := *node
		switch {
		case n.ID == self:
			status := shoal.ManagerStatus{Addr: state.NodeAddr(), PeerURL: peerURL}
			if n.Manager != nil {
				status.MemberID = n.Manager.MemberID
			}
			n.Manager, n.Role, n.Spec.Role, n.Status.Addr = &status, shoal.RoleManager, shoal.RoleManager, state.AdvertiseAddr
		case n.Manager != nil || n.Spec.Role == shoal.RoleManager:
			n.Manager, n.Spec.Role = nil, shoal.RoleWorker
		default:
			continue
		}
		changes.Put(&n)
	}
	if cluster := view.Cluster(); cluster != nil && (spec.CertExpiry > 0 || spec.HeartbeatPeriod > 0) {
		c := *cluster
		if spec.CertExpiry > 0 {
			c.Spec.CertExpiry = spec.CertExpiry
		}
		if spec.HeartbeatPeriod > 0 {
			c.Spec.HeartbeatPeriod = spec.HeartbeatPeriod
		}
		changes.Put(&c)
	}
	return changes, nil
}
