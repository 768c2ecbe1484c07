package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onDisk tells whether all of a file has its place on the disk; ok is false where the file system does not say.
func onDisk(t *testing.T, path string) (all, ok bool) {
	t.Helper()
	const (
		fiemap   = 0xC020660B // FS_IOC_FIEMAP
		delalloc = 0x4        // FIEMAP_EXTENT_DELALLOC: it is in memory only
		count    = 64
	)
	var request struct { // struct fiemap of linux/fiemap.h
		start, length                 uint64
		flags, mapped, count, padding uint32
		extents                       [count]struct {
			logical, physical, length uint64
			reserved                  [2]uint64
			flags                     uint32
			padding                   [3]uint32
		}
	}
	request.length, request.count = 1<<63, count
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&request))); errno != 0 { // #nosec G103 -- as ioctl(2) wants it
		return false, false
	}
	for _, e := range request.extents[:request.mapped] {
		if e.flags&delalloc != 0 {
			return false, true
		}
	}
	return true, true
}

// After a power cut the files of an image that had been loaded a minute before had length 0, and its containers ended with "input/output error": layers counted
// as unpacked as soon as containerd's database said so, which is flushed, and their files are not.
func TestLayersAreOnTheDiskBeforeTheyCountAsUnpacked(t *testing.T) {
	dir := t.TempDir()
	load(t, newStoreIn(t, dir))
	dir = filepath.Join(dir, "root", "io.containerd.snapshotter.v1.overlayfs", "snapshots")
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		all, ok := onDisk(t, path)
		if !ok {
			t.Skip("the file system does not say where its files are")
		}
		if files++; !all {
			t.Errorf("%s is in memory only", path)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}
