package swarm

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Member is this manager's member of the replicated store: etcd's on a node, one of a log in memory in testcluster.
type Member interface {
	store.Backend
	// ID names the member among the others; LeaderID is the one that leads as far as this one knows, in the same form.
	ID() string
	LeaderID() string
	// Leader tells whether this member leads, in which epoch; the channel is closed when that may have changed.
	Leader() (epoch uint64, leads bool, turned <-chan struct{})
	// Resign hands leadership to another member, if this one leads and there is another.
	Resign() error
	// Learner tells whether the member has no vote.
	Learner() bool
	// Members lists all members, this one included.
	Members(ctx context.Context) ([]MemberInfo, error)
	// Add admits a member without a vote and gives the peer URLs of all members by name. Adding one that is there is no error.
	Add(ctx context.Context, name, peerURL string) (map[string]string, error)
	// Promote gives a member its vote as soon as it has caught up.
	Promote(ctx context.Context, id string) error
	// Remove takes a member out. Removing one that is not there is no error.
	Remove(ctx context.Context, id string) error
	// Run follows the leadership until ctx ends or the member stops.
	Run(ctx context.Context) error
	// Done is closed when the member has stopped, be it by Close or because it was removed.
	Done() <-chan struct{}
	// Close stops the member, once; its data stays.
	Close()
}

// MemberInfo is one member of the replicated store as the others know it.
type MemberInfo struct {
	ID      string
	Name    string // the node's ID; empty until the member has started
	PeerURL string
	Learner bool // has no vote yet
}

// members is the store's membership, by node.
type members struct{ m *Manager }

// Add implements membership.Members. The new member gets its vote in the background, once it has caught up.
func (s members) Add(ctx context.Context, node shoal.ID, peerURL string) (map[shoal.ID]string, error) {
	initial, err := s.m.member.Add(ctx, node, peerURL)
	if err != nil {
		return nil, err
	}
	go s.promote(peerURL) //nolint:gosec // it goes on after the request
	return initial, nil
}

func (s members) promote(peerURL string) {
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	all, err := s.m.member.Members(ctx)
	if err != nil {
		s.m.log.Error("promote a new store member", "err", err)
		return
	}
	for _, member := range all {
		if member.PeerURL == peerURL && member.Learner {
			if err := s.m.member.Promote(ctx, member.ID); err != nil {
				s.m.log.Error("promote a new store member", "member", member.ID, "err", err)
			}
		}
	}
}

// Remove implements membership.Members. A member that has not started has no name yet, but a URL.
func (s members) Remove(ctx context.Context, node shoal.ID) error {
	all, err := s.m.member.Members(ctx)
	if err != nil {
		return err
	}
	url := ""
	if n := s.m.store.View().Node(node); n != nil && n.Manager != nil {
		url = n.Manager.PeerURL
	}
	for _, member := range all {
		if member.Name == node || (member.Name == "" && member.PeerURL == url) {
			return s.m.member.Remove(ctx, member.ID)
		}
	}
	return nil
}

// List implements membership.Members.
func (s members) List(ctx context.Context) ([]membership.Member, error) {
	all, err := s.m.member.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]membership.Member, 0, len(all))
	for _, m := range all {
		out = append(out, membership.Member{ID: m.ID, PeerURL: m.PeerURL, Learner: m.Learner, Started: m.Name != ""})
	}
	return out, nil
}

// RemoveMember implements membership.Members.
func (s members) RemoveMember(ctx context.Context, id string) error {
	return s.m.member.Remove(ctx, id)
}

// Promote implements membership.Members.
func (s members) Promote(ctx context.Context, id string) error { return s.m.member.Promote(ctx, id) }

// Key implements membership.Members.
func (s members) Key() []byte { return s.m.key }
