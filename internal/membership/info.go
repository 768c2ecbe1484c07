package membership

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

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
