package store

import (
	"context"
	"maps"
	"sync"
)

// Memory is a Backend in the memory of one process, for tests and simulation. It is its own leader.
type Memory struct {
	mu                sync.Mutex // guards the rest
	rev               uint64
	records           map[string]Record
	history           []revision
	compacted         uint64 // revisions up to this one are no longer in history
	advanced          chan struct{}
	leading           bool
	leadershipChanged chan struct{}
}

type revision struct {
	rev     uint64
	records []Record
}

// NewMemory returns a backend without objects that leads, until Resign.
func NewMemory() *Memory {
	m := &Memory{records: map[string]Record{}, advanced: make(chan struct{}), leadershipChanged: make(chan struct{})}
	m.Campaign()
	return m
}

// Load implements Backend.
func (m *Memory) Load(context.Context) ([]Record, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Record, 0, len(m.records))
	for r := range maps.Values(m.records) {
		all = append(all, r)
	}
	return all, m.rev, nil
}

// Txn implements Backend.
func (m *Memory) Txn(_ context.Context, fence uint64, ops []Op) (uint64, error) {
	if err := CheckTxn(ops); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if fence != 0 && m.records[EpochKey].Rev != fence {
		return 0, ErrFenced
	}
	for _, op := range ops {
		if op.If != AnyRevision && m.records[op.Key].Rev != op.If {
			return 0, &KeyConflict{op.Key}
		}
	}
	return m.writeLocked(ops), nil
}

func (m *Memory) writeLocked(ops []Op) uint64 {
	m.rev++
	written := revision{rev: m.rev}
	for _, op := range ops {
		r := Record{op.Key, op.Value, m.rev}
		written.records = append(written.records, r)
		if op.Value == nil {
			delete(m.records, op.Key)
		} else {
			m.records[op.Key] = r
		}
	}
	m.history = append(m.history, written)
	close(m.advanced)
	m.advanced = make(chan struct{})
	return m.rev
}

// Watch implements Backend.
func (m *Memory) Watch(ctx context.Context, after uint64, each func(uint64, []Record)) error {
	for {
		m.mu.Lock()
		if after < m.compacted {
			m.mu.Unlock()
			return ErrCompacted
		}
		news := m.history[after-m.compacted:]
		advanced := m.advanced
		m.mu.Unlock()
		for _, n := range news {
			each(n.rev, n.records)
			after = n.rev
		}
		if len(news) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-advanced:
		}
	}
}

// Compact drops all past revisions, so that a Watch that has not seen them fails with ErrCompacted.
func (m *Memory) Compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history, m.compacted = nil, m.rev
}

// Campaign makes the backend the leader, in a new epoch.
func (m *Memory) Campaign() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeLocked([]Op{{Key: EpochKey, Value: []byte("memory")}})
	m.setLeadingLocked(true)
}

// Resign ends its leadership, until Campaign.
func (m *Memory) Resign() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setLeadingLocked(false)
}

func (m *Memory) setLeadingLocked(leading bool) {
	m.leading = leading
	close(m.leadershipChanged)
	m.leadershipChanged = make(chan struct{})
}

// Leader tells whether the backend leads, and in which epoch. The channel is closed when that may have changed.
func (m *Memory) Leader() (epoch uint64, leading bool, leadershipChanged <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[EpochKey].Rev, m.leading, m.leadershipChanged
}
