package swarm

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Member is this manager's member of the replicated store: an etcd member on a node, and one of a log in memory in testcluster.
type Member interface {
	store.Backend
	// ID is the ID of this member.
	ID() string
	// LeaderID is the ID of the leader as far as this member knows.
	LeaderID() string
	// Leader tells whether this member leads, and in which epoch. The channel is closed when that may have changed.
	Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{})
	// Resign makes another member the leader, if this one leads and there is another.
	Resign() error
	// Stand makes this member stand for election, because the leader with an ID is known to be gone. If another leads by now, it does nothing.
	Stand(ctx context.Context, leader string) error
	// Learner tells whether the member has no vote.
	Learner() bool
	// Members lists all members, this one included.
	Members(ctx context.Context) ([]MemberInfo, error)
	// Add admits a new member, which has no vote yet, and returns the peer URLs of all members by name. Adding a member again is no error.
	Add(ctx context.Context, name, peerURL string) (map[string]string, error)
	// Promote gives a member a vote. It waits until the member has caught up, or ctx ends.
	Promote(ctx context.Context, id string) error
	// Remove removes a member. Removing one that there is not is no error.
	Remove(ctx context.Context, id string) error
	// Run keeps what Leader returns current until ctx ends or the member stops.
	Run(ctx context.Context) error
	// Done is closed when the member has stopped, because of Close, because it was removed or because it has failed. Err is why: store.ErrRemoved,
	// the failure, or nil.
	Done() <-chan struct{}
	Err() error
	// Problems describes, a sentence each, what the member can not do at present.
	Problems() []string
	// Close stops the member; its data stays. Further calls do nothing.
	Close()
}

// MemberInfo is one member of the replicated store as the others know it.
type MemberInfo struct {
	ID      string
	Name    string // the node's ID; empty until the member has started
	PeerURL string
	Learner bool // has no vote yet
}

// members implements membership.Members: it knows the members of the store by their nodes.
type members struct{ m *Manager }

// Add implements membership.Members. The new member gets its vote in the background, once it has caught up.
func (s members) Add(ctx context.Context, node shoal.NodeID, peerURL string) (map[shoal.NodeID]string, error) {
	initial, err := s.m.member.Add(ctx, string(node), peerURL)
	if err != nil {
		return nil, err
	}
	go fault.Do(s.m.log, "vote of a new store member", func() { s.promote(peerURL) }) //nolint:gosec // it outlives the request
	peers := make(map[shoal.NodeID]string, len(initial))
	for name, url := range initial {
		peers[shoal.NodeID(name)] = url // members are named after their nodes
	}
	return peers, nil
}

// promote gives a new member its vote when it has caught up. If that fails, the leader tries again: see membership.Roster.
func (s members) promote(peerURL string) {
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	all, err := s.m.member.Members(ctx)
	if err != nil {
		s.m.log.Error("a new store member has no vote yet; the leader will try again", "err", err)
		return
	}
	for _, member := range all {
		if member.PeerURL == peerURL && member.Learner {
			if err := s.m.member.Promote(ctx, member.ID); err != nil {
				s.m.log.Error("a new store member has no vote yet; the leader will try again", "member", member.ID, "err", err)
			}
		}
	}
}

// Remove implements membership.Members. A member that has not started has no name yet; it is found by its peer URL.
func (s members) Remove(ctx context.Context, node shoal.NodeID) error {
	all, err := s.m.member.Members(ctx)
	if err != nil {
		return err
	}
	url := ""
	if n := s.m.store.View().Node(node); n != nil && n.Manager != nil {
		url = n.Manager.PeerURL
	}
	for _, member := range all {
		if member.Name == string(node) || (member.Name == "" && member.PeerURL == url) {
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
