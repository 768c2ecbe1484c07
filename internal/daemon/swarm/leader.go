package swarm

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// managerOf is the node's manager part; the error is what Docker tells the user of a node that has none.
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

// Logs finds the logs of tasks on whatever node they are: itself on the leader, through the leader on other managers.
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

// Reach connects to the API of a node: itself on the leader, through the leader on other managers.
func Reach(ctx context.Context, members *membership.Membership, node shoal.ID) (*rpc.Tunnel, error) {
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
