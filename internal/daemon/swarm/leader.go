package swarm

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// managerOf is the manager that runs on this node. The error says, in Docker's words, that the node is no manager.
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

// Logs calls each for every log line of tasks on any node. On the leader it asks the nodes' agents; other managers ask the leader.
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

// Reach connects to the API of a node. On the leader it asks the node's agent; other managers ask the leader.
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
