package etcd

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// candidacyInterval is how long each member leaves the first word to those whose ID is lower, so that votes are not split.
const candidacyInterval = 100 * time.Millisecond

// Stand makes this member stand for election, without waiting for the election timeout, because the leader with an ID is known to be gone. If
// another leads by now, it does nothing. It returns when that is done.
//
// Raft has no message for this. MsgTimeoutNow, which a leader sends to the member that is to take its place, does what is needed: it makes a candidate
// that others vote for although they have heard of their leader within the election timeout.
func (m *Member) Stand(ctx context.Context, leader string) error {
	server := m.server.Server
	self := server.MemberID()
	var voters []uint64
	for _, other := range server.Cluster().Members() {
		if other.ID.String() != leader && !other.IsLearner {
			voters = append(voters, uint64(other.ID))
		}
	}
	slices.Sort(voters)
	rank := slices.Index(voters, uint64(self))
	if rank < 0 {
		return nil // it has no vote, or leads itself
	}
	select {
	case <-time.After(time.Duration(rank) * candidacyInterval):
	case <-server.LeaderChangedNotify():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	known := server.Leader()
	if known != 0 && known.String() != leader { // 0: one has stood and was not elected, because it lacks what others have
		return nil
	}
	m.log.Info("the leader is gone; this manager stands for election", "leader", leader)
	to := uint64(self)
	return server.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: new(uint64(known)), To: &to})
}
