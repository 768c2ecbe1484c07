package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	defaultQuota        = 2 << 30          // bytes of the database; beyond it etcd takes no writes
	maintenanceInterval = 30 * time.Second // between two passes
	keptRevisions       = 20000            // past revisions that a watch can begin at, at most
	keptFor             = 30 * time.Minute // and no older ones than this
	// From this part of the quota on only fewKeptRevisions are kept: large objects that change often fill it otherwise.
	crowdedPart      = 4
	fewKeptRevisions = 200
	minDefragment    = 32 << 20 // bytes of free pages below which the database is left as it is
)

// mark is the revision that the store was at, at a time.
type mark struct {
	at  time.Time
	rev int64
}

// maintain compacts and defragments the database, and ends alarms, until ctx ends.
func (m *Member) maintain(ctx context.Context) {
	ticker := time.NewTicker(m.cfg.MaintenanceInterval)
	defer ticker.Stop()
	var marks []mark
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.done:
			return
		case <-ticker.C:
		}
		marks = append(marks, mark{time.Now(), m.server.Server.KV().Rev()})
		if m.noRoom() != nil {
			continue // all of it writes
		}
		if err := m.maintainOnce(ctx, &marks); err != nil && ctx.Err() == nil {
			m.log.Warn("maintenance of the store failed; it is tried again", "err", err)
		}
	}
}

func (m *Member) maintainOnce(ctx context.Context, marks *[]mark) error {
	ctx, cancel := context.WithTimeout(ctx, maintenanceInterval)
	defer cancel()
	alarmed := len(m.server.Server.Alarms()) > 0
	if _, leads, _ := m.Leader(); leads || alarmed && !m.follows() {
		if err := m.compact(ctx, m.compactTo(marks, alarmed)); err != nil {
			return err
		}
	}
	backend := m.server.Server.Backend()
	if spare := backend.Size() - backend.SizeInUse(); spare >= minDefragment && spare > backend.Size()/2 || alarmed && spare > 0 {
		if err := m.server.Server.Defragment(); err != nil {
			return fmt.Errorf("defragment: %w", err)
		}
		m.log.Info("the store's database was defragmented", "bytes", m.server.Server.Backend().Size())
	}
	if alarmed {
		return m.endAlarms(ctx)
	}
	return nil
}

// compactTo is the revision up to which history is forgotten, by number, by age and by the size of the database; it drops marks of the past.
func (m *Member) compactTo(marks *[]mark, alarmed bool) int64 {
	now := m.server.Server.KV().Rev()
	to := now - keptRevisions
	for len(*marks) > 0 && time.Since((*marks)[0].at) > keptFor {
		to = max(to, (*marks)[0].rev)
		*marks = (*marks)[1:]
	}
	if m.server.Server.Backend().SizeInUse() > m.cfg.Quota/crowdedPart {
		to = max(to, now-fewKeptRevisions)
	}
	if alarmed {
		to = now
	}
	return to
}

func (m *Member) compact(ctx context.Context, to int64) error {
	m.mu.Lock()
	compacted := m.compacted
	m.mu.Unlock()
	if to <= compacted {
		return nil
	}
	if _, err := m.client.Compact(ctx, to, clientv3.WithCompactPhysical()); err != nil {
		return fmt.Errorf("compact up to revision %d: %w", to, err)
	}
	m.mu.Lock()
	m.compacted = to
	m.mu.Unlock()
	return nil
}

// endAlarms ends the alarms for lack of space once the database is well below its quota. etcd itself never does.
func (m *Member) endAlarms(ctx context.Context) error {
	if size := m.server.Server.Backend().Size(); size > m.cfg.Quota/10*8 {
		m.log.Error("the store's database is larger than it may be: no changes of the cluster's state are possible until objects are removed", "bytes", size, "quota", m.cfg.Quota)
		return nil
	}
	for _, alarm := range m.server.Server.Alarms() {
		if alarm.GetAlarm() != pb.AlarmType_NOSPACE {
			continue
		}
		if _, err := m.client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: alarm.GetMemberID(), Alarm: alarm.GetAlarm()}); err != nil {
			return fmt.Errorf("end the alarm for lack of space: %w", err)
		}
		m.log.Info("the store takes writes again: there is room in its database")
	}
	return nil
}
