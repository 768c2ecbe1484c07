package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/store"
)

const (
	// defaultMinFree is the free space below which a member takes no writes: room for two more segments of etcd's log (64 MiB each), for the
	// database's growth while leadership is handed over, and to spare.
	defaultMinFree = 256 << 20
	// With less than this part of Config.MinFree a follower, which cannot refuse what the leader sends it, stops in good order, and a member is not
	// started.
	stopPart = 8
	// resumePart of Config.MinFree must be free beyond it before writes are taken again, so that a disk at the limit does not make the member flap.
	resumePart = 4

	diskInterval   = 500 * time.Millisecond // between two looks at the disk
	resignInterval = time.Minute            // between two attempts to hand over leadership
)

// freeSpace is the number of bytes that this process may still write to the file system that a folder is on.
func freeSpace(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("look for free disk space at %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil // #nosec G115 -- never negative
}

// errNoRoom is in every error of noRoom.
var errNoRoom = errors.New("the disk is nearly full")

// noRoom is the error of writes while the disk is nearly full.
func noRoom(dir string, free, least uint64) error {
	text := fmt.Sprintf("the cluster's state cannot be changed by this manager: %s are free on the disk of %s, and it needs %s. Free some space there, or use another manager",
		units.BytesSize(float64(free)), dir, units.BytesSize(float64(least)))
	return roomError{errdefs.ErrUnavailable.WithMessage(text)}
}

// roomError is an error whose text has no part for errNoRoom.
type roomError struct{ error }

// Unwrap gives its kind and what it is told by.
func (e roomError) Unwrap() []error { return []error{e.error, errNoRoom} }

// guardDisk makes the member refuse writes while the disk is nearly full, and hand over leadership, until ctx ends.
func (m *Member) guardDisk(ctx context.Context) {
	ticker := time.NewTicker(diskInterval)
	defer ticker.Stop()
	var resigned time.Time
	for {
		if free, err := freeSpace(m.cfg.Dir); err == nil { // a disk that cannot be looked at fails by itself
			m.judgeDisk(free)
			if m.noRoom() == nil {
				m.releaseSegment(false)
			}
			if m.noRoom() != nil && m.follows() && free < m.cfg.MinFree/stopPart {
				m.failed.set(noRoom(m.cfg.Dir, free, m.cfg.MinFree))
			}
		}
		if m.noRoom() == nil {
			resigned = time.Time{}
		} else if time.Since(resigned) > resignInterval {
			resigned = time.Now()
			if err := m.Resign(); err != nil && ctx.Err() == nil {
				m.log.Warn("leadership cannot be handed to a manager with more disk space; it is tried again in a minute", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-m.done:
			return
		case <-ticker.C:
		}
	}
}

// follows tells whether another member leads.
func (m *Member) follows() bool {
	leader := m.server.Server.Leader()
	return leader != 0 && leader != m.server.Server.MemberID()
}

// judgeDisk decides whether the member takes writes.
func (m *Member) judgeDisk(free uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	least := m.cfg.MinFree
	switch {
	case free < least:
		if m.full == nil {
			m.log.Error("the disk is nearly full: this manager takes no changes of the cluster's state until there is room, and gives up leadership",
				"dir", m.cfg.Dir, "free", units.BytesSize(float64(free)), "needed", units.BytesSize(float64(least)))
		}
		if m.full == nil || free > m.fullAt+m.fullAt/resumePart || free < m.fullAt-m.fullAt/resumePart { // else the same words: who logs them sees no change
			m.full, m.fullAt = noRoom(m.cfg.Dir, free, least), free
		}
	case m.full != nil && free >= least+least/resumePart:
		m.full = nil
		m.log.Info("there is room on the disk again: this manager takes changes of the cluster's state")
	}
}

// noRoom is why the member takes no writes; nil while it does.
func (m *Member) noRoom() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full
}

// Problems describes, a sentence each, what the member can not do at present.
func (m *Member) Problems() []string {
	var all []string
	if err := m.noRoom(); err != nil {
		all = append(all, err.Error())
	}
	if err := m.Err(); err != nil {
		if !errors.Is(err, store.ErrRemoved) {
			all = append(all, "this manager's copy of the cluster's state has stopped: "+err.Error())
		}
		return all // etcd may answer nothing any more
	}
	for _, alarm := range m.server.Server.Alarms() {
		all = append(all, fmt.Sprintf("the store has raised the alarm %s for member %x: it takes no writes until that is over", alarm.GetAlarm(), alarm.GetMemberID()))
	}
	return all
}
