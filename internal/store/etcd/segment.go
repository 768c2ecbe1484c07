package etcd

import (
	"log/slog"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// nextSegment is the file of the next segment of etcd's log, locked. etcd allocates that as soon as it starts, 64 MiB that it does not need before the
// present segment is full. On a disk with less room it takes what there is (ext4 leaves it allocated) and then has none for its database. But it waits for
// the file's lock first. Nil is one that is not locked.
type nextSegment struct{ file *fileutil.LockedFile }

// holdNextSegment locks the segment of a member that is not running.
func holdNextSegment(log *slog.Logger, dir string) *nextSegment {
	file, err := fileutil.TryLockFile(filepath.Join(dir, "member", "wal", "0.tmp"), os.O_WRONLY|os.O_CREATE, fileutil.PrivateFileMode)
	if err != nil {
		log.Warn("the store cannot be kept from allocating the next part of its log, which may fill the disk", "err", err)
		return nil
	}
	return &nextSegment{file}
}

// release lets etcd allocate the segment.
func (s *nextSegment) release() {
	if s != nil {
		_ = s.file.Close()
	}
}

// releaseSegment lets etcd allocate the next segment of its log, if it was kept from that. Of a member that is closing, the file is removed first, so that what etcd
// allocates then is free again once it has stopped.
func (m *Member) releaseSegment(closing bool) {
	m.mu.Lock()
	segment := m.segment
	m.segment = nil
	m.mu.Unlock()
	if segment != nil && closing {
		_ = os.Remove(segment.file.Name())
	}
	segment.release()
}
