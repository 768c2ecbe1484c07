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
	ID      string // in hex
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

// errSameSecond is etcd's refusal to add a member at a URL when another member was added at that URL within this second, and then removed: etcd makes
// IDs of the URL and the time in seconds, and never uses an ID again.
var errSameSecond = errors.New("the member's ID has been used already")

// Add adds a learner and returns the Config.Initial that it has to be started with. While the cluster is not healthy enough, it retries until ctx ends.
// Adding a member again is no error.
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

// Promote gives a learner a vote. It retries until the learner has started and caught up, or ctx ends. Promoting a member that has a vote is no error.
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

// Remove removes a member from the cluster. Removing one that there is not is no error.
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

// retry repeats a request while the cluster refuses it only for the moment, until ctx ends.
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
