package swarm

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// managerOf is the node's manager part; if it has none, the error is Docker's for a node that is not a manager.
func managerOf(members *membership.Membership) (*Manager, error) {
	m, err := members.Manager()
	if err != nil {
		return nil, err
	}
	running, ok := m.(*Manager)
	if !ok {
		return nil, fmt.Errorf("find the manager: it is a %T", m)
	}
	return running, nil
}

// Logs calls each for the log lines of tasks on any node. The leader asks the nodes' agents; other managers ask the leader.
func Logs(ctx context.Context, members *membership.Membership, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	m, err := managerOf(members)
	if err != nil {
		return err
	}
	if m.Leads() {
		return m.dispatcher.Logs(ctx, query, each)
	}
	leader, err := members.Client(ctx)
	if err != nil {
		return err
	}
	return leader.ReadLogs(ctx, query, each)
}

// Reach connects to the API of a node. The leader asks the node's agent for a tunnel; other managers ask the leader.
func Reach(ctx context.Context, members *membership.Membership, node shoal.NodeID) (*rpc.Tunnel, error) {
	m, err := managerOf(members)
	if err != nil {
		return nil, err
	}
	if m.Leads() {
		return m.dispatcher.Reach(ctx, node)
	}
	leader, err := members.Client(ctx)
	if err != nil {
		return nil, err
	}
	return leader.Reach(ctx, node)
}
