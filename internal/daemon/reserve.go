package daemon

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// mostReserved is what images and logs leave of a manager's disk, for the cluster's state: without room, that takes no more changes. Of a disk under 8 GiB
	// they leave an eighth.
	mostReserved = 1 << 30
	reservedPart = 8

	reserveInterval = 500 * time.Millisecond // between two looks at the disk
)

// reserve keeps the last of the disk from images and logs.
type reserve struct {
	dir    string                       // where images and logs are
	state  string                       // where the cluster's state is
	needed func() bool                  // is this node a manager?
	note   func(part string, err error) // see quarantine.Note

	// Every line that a container prints asks, so what is known is read without a lock.
	looked atomic.Int64 // nanoseconds of Unix time
	left   atomic.Int64 // bytes that there is room for, since then; negative if the reserve is touched
	mu     sync.Mutex   // held by who looks
}

// check is an error if there is no room for so many bytes more of images and logs.
func (r *reserve) check(bytes int64) error {
	if time.Since(time.Unix(0, r.looked.Load())) >= reserveInterval && r.mu.TryLock() {
		r.look()
		r.mu.Unlock()
	}
	return r.refusal(bytes)
}

// look finds out how much room there is, and tells when the reserve begins to be touched and when no more.
func (r *reserve) look() {
	before, now := r.left.Load(), r.room()
	r.left.Store(now)
	r.looked.Store(time.Now().UnixNano())
	if (before < 0) != (now < 0) {
		r.note("room for images and logs", r.refusal(0))
	}
}

func (r *reserve) refusal(bytes int64) error {
	if bytes <= r.left.Load() {
		return nil
	}
	return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf(
		"the disk of %s is nearly full; what is left of it is kept for the cluster's state, because this node is a manager: images are not stored, and what containers print is not logged", r.dir))
}

// room is how many bytes images and logs may still take.
func (r *reserve) room() int64 {
	var (
		fs        unix.Statfs_t
		ours, its unix.Stat_t
	)
	if !r.needed() || unix.Statfs(r.dir, &fs) != nil || unix.Stat(r.dir, &ours) != nil || unix.Stat(r.state, &its) != nil || ours.Dev != its.Dev {
		return math.MaxInt64
	}
	return int64(fs.Bavail)*fs.Bsize - min(mostReserved, int64(fs.Blocks)*fs.Bsize/reservedPart) // #nosec G115 -- no disk is that large
}
