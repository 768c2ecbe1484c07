package etcd

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/store"
)

// Leader tells whether this member leads, and in which epoch, for store.Changes.Fence. The channel is closed when that changes. A member leads when it
// is raft's leader and has written the epoch key.
func (m *Member) Leader() (epoch uint64, leading bool, leadershipChanged <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch, m.leading, m.leadershipChanged
}

// LeaderID is the ID, in hex, of raft's leader; "0" if there is none.
func (m *Member) LeaderID() string { return m.server.Server.Leader().String() }

// ID is the ID of this member, in hex.
func (m *Member) ID() string { return m.server.Server.MemberID().String() }

// Run follows raft's leadership until ctx ends or the member stops. Each time this member becomes raft's leader, it writes the epoch key. It also looks
// after the disk and the database: see docs/store.md.
func (m *Member) Run(ctx context.Context) error {
	defer m.setLeadership(0, false)
	var caring sync.WaitGroup
	defer func() {
		if m.Err() == nil { // what a failed member was asked for may never be answered
			caring.Wait()
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	caring.Go(func() { m.guardDisk(ctx) })
	caring.Go(func() { m.maintain(ctx) })
	var term uint64 // of raft, in which the epoch was written
	for {
		changed := m.server.Server.LeaderChangedNotify()
		isLeader := m.server.Server.Leader() == m.server.Server.MemberID()
		_, leading, _ := m.Leader()
		if now := m.server.Server.Term(); leading && now != term { // it may have been deposed and elected again between two looks
			m.setLeadership(0, false)
			leading = false
		}
		var again <-chan time.Time
		if isLeader { // LeaderChangedNotify says nothing of a leader that loses its majority, and writing the epoch may fail
			again = time.After(retryPause)
		}
		switch {
		case isLeader && !leading:
			term = m.server.Server.Term()
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
		case <-m.done:
			return cmp.Or(m.Err(), errStopped)
		case <-changed:
		case <-again:
		}
	}
}

// Resign makes another member the leader, if this one leads and there is another.
func (m *Member) Resign() error {
	if err := m.server.Server.TryTransferLeadershipOnShutdown(); err != nil {
		return fmt.Errorf("hand over leadership: %w", err)
	}
	return nil
}

// Learner tells whether the member has no vote, because it is a learner or was removed. (EtcdServer.IsLearner panics once the member has been removed.)
func (m *Member) Learner() bool {
	self := m.server.Server.Cluster().Member(m.server.Server.MemberID())
	return self == nil || self.IsLearner
}

// begin begins an epoch by writing the epoch key; the result is its revision.
func (m *Member) begin(ctx context.Context) (uint64, error) {
	ctx, stop := m.whileRunning(ctx)
	defer stop()
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
