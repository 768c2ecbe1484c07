package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/internal/store"
)

// Leader tells whether this member leads, in which epoch (a fence for store.Changes), and gives a channel that is closed
// when that changes. Only a member that is raft's leader and has written the epoch key leads.
func (m *Member) Leader() (epoch uint64, leading bool, leadershipChanged <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch, m.leading, m.leadershipChanged
}

// LeaderID is the member that raft follows, in hex as in Members; "0" if there is none.
func (m *Member) LeaderID() string { return m.server.Server.Leader().String() }

// ID is this member, in hex.
func (m *Member) ID() string { return m.server.Server.MemberID().String() }

// Run follows raft's leadership until ctx ends or the member stops: it writes the epoch key each time this member comes to lead.
func (m *Member) Run(ctx context.Context) error {
	defer m.setLeadership(0, false)
	for {
		changed := m.server.Server.LeaderChangedNotify()
		isLeader := m.server.Server.Leader() == m.server.Server.MemberID()
		_, leading, _ := m.Leader()
		var look <-chan time.Time
		if isLeader { // raft does not notify a leader that has lost its majority, and writing the epoch may have failed
			look = time.After(retryPause)
		}
		switch {
		case isLeader && !leading:
			epoch, err := m.begin(ctx)
			if err != nil {
				m.log.Warn("leader could not write its epoch; it tries again", "err", err)
			} else {
				m.setLeadership(epoch, true)
			}
		case !isLeader && leading:
			m.setLeadership(0, false)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.server.Server.StopNotify():
			return fmt.Errorf("etcd member %s has stopped", m.ID())
		case <-changed:
		case <-look:
		}
	}
}

// Resign hands leadership to another member, if this one leads and there is another.
func (m *Member) Resign() error {
	if err := m.server.Server.TryTransferLeadershipOnShutdown(); err != nil {
		return fmt.Errorf("hand over leadership: %w", err)
	}
	return nil
}

// Learner tells whether the member has no vote: not yet, or not any more. (etcd's own answer panics once the member has been
// removed.)
func (m *Member) Learner() bool {
	self := m.server.Server.Cluster().Member(m.server.Server.MemberID())
	return self == nil || self.IsLearner
}

func (m *Member) begin(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	put, err := m.client.Put(ctx, store.EpochKey, m.ID())
	if err != nil {
		return 0, fmt.Errorf("write epoch: %w", err)
	}
	return rev(put.Header.Revision), nil
}

func (m *Member) setLeadership(epoch uint64, leading bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leading == leading && m.epoch == epoch {
		return
	}
	m.epoch, m.leading = epoch, leading
	close(m.leadershipChanged)
	m.leadershipChanged = make(chan struct{})
}
