package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MemberInfo is one member as the cluster knows it.
type MemberInfo struct {
	ID      string // hex
	Name    string // empty until the member has started
	PeerURL string
	Learner bool // has no vote yet
}

// Members lists the members, this one included.
func (m *Member) Members(ctx context.Context) ([]MemberInfo, error) {
	got, err := m.client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return nil, fmt.Errorf("list etcd members: %w", err)
	}
	all := make([]MemberInfo, 0, len(got.Members))
	for _, member := range got.Members {
		info := MemberInfo{ID: strconv.FormatUint(member.ID, 16), Name: member.Name, Learner: member.IsLearner}
		if len(member.PeerURLs) > 0 {
			info.PeerURL = member.PeerURLs[0]
		}
		all = append(all, info)
	}
	return all, nil
}

// errSameSecond is etcd's refusal of a member at a URL whose last member was added in this very second and has been removed: IDs
// are made of the URL and the time in seconds, and never used again.
var errSameSecond = errors.New("the member's ID has been used already")

// Add admits a member as a learner and returns what its Config.Initial must be. It retries while the cluster is not yet
// healthy enough, until ctx ends. Adding a member that is there already is no error.
func (m *Member) Add(ctx context.Context, name, peerURL string) (map[string]string, error) {
	err := m.retry(ctx, func() error {
		_, err := m.client.MemberAddAsLearner(ctx, []string{peerURL})
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return errSameSecond
		}
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrPeerURLExist) && !errors.Is(err, rpctypes.ErrMemberExist) {
		return nil, fmt.Errorf("add etcd member %s: %w", name, err)
	}
	members, err := m.Members(ctx)
	if err != nil {
		return nil, err
	}
	initial := map[string]string{name: peerURL}
	for _, member := range members {
		if member.Name != "" {
			initial[member.Name] = member.PeerURL
		}
	}
	return initial, nil
}

// Promote makes a started learner a voting member, as soon as it has caught up.
func (m *Member) Promote(ctx context.Context, id string) error {
	member, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return fmt.Errorf("parse member ID: %w", err)
	}
	err = m.retry(ctx, func() error {
		_, err := m.client.MemberPromote(ctx, member)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return fmt.Errorf("promote etcd member %s: %w", id, err)
	}
	return nil
}

// Remove takes a member out of the cluster. Removing one that is not there is no error.
func (m *Member) Remove(ctx context.Context, id string) error {
	member, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return fmt.Errorf("parse member ID: %w", err)
	}
	err = m.retry(ctx, func() error {
		_, err := m.client.MemberRemove(ctx, member)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("remove etcd member %s: %w", id, err)
	}
	return nil
}

// retry repeats what is refused only because of the cluster's present health.
func (m *Member) retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, rpctypes.ErrUnhealthy) && !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) &&
			!errors.Is(err, rpctypes.ErrNoLeader) && !errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) && !errors.Is(err, errSameSecond) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}
