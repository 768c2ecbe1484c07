package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Logs and images took the last of a manager's disk, and the cluster's state could not be changed any more.
func TestImagesAndLogsLeaveRoomForTheState(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("needs root, for a file system of its own: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	const MiB = 1 << 20
	manager, noted := true, error(nil)
	notes := 0
	r := &reserve{dir: dir, state: dir, needed: func() bool { return manager }, note: func(_ string, err error) { noted = err; notes++ }}
	use := func(bytes int) {
		t.Helper()
		r.looked.Store(0)
		if err := os.WriteFile(filepath.Join(dir, "used"), make([]byte, bytes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	use(0) // 64 MiB, of which 8 are kept
	if err := r.check(55 * MiB); err != nil {
		t.Error(err)
	}
	if err := r.check(57 * MiB); !errdefs.IsResourceExhausted(err) {
		t.Errorf("more than there is room for: %v", err)
	}
	if notes > 0 {
		t.Error("what is refused for its size is told as if the disk were full")
	}
	use(58 * MiB)
	for range 3 {
		if err := r.check(1); !errdefs.IsResourceExhausted(err) {
			t.Errorf("of the reserve: %v", err)
		}
	}
	if noted == nil || notes != 1 {
		t.Errorf("told %d times: %v", notes, noted)
	}
	manager = false
	r.looked.Store(0)
	if err := r.check(MiB); err != nil || noted != nil {
		t.Errorf("on a worker: %v, told %v", err, noted)
	}
}
