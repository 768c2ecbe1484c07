package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	continuity "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/fault"
)

// withMounts calls do with the root directory of a container that does not run, in which its volumes and binds are mounted as when it
// starts, so that a copy goes to where the container will look for it. The mounts are in a namespace that ends with the call, whatever becomes of the
// daemon.
func (e *Engine) withMounts(info Info, root string, do func(root string) error) error {
	defer e.removeFiles(info.ID) // images that are mounted on the host for this
	var mounts []rootMount
	for _, p := range info.Mounts {
		if p.Type == "tmpfs" {
			continue
		}
		asked := askedMount(info.Spec.Mounts, p.Target)
		m := rootMount{source: p.Source, target: p.Target, readOnly: !p.RW, alone: asked.Bind != nil && asked.Bind.NonRecursive}
		if p.Type == "volume" {
			defer e.Volumes.PublishUnmount(p.Name, info.ID)
		}
		if p.Type != "bind" {
			dir, err := e.sourceDir(&info, p, asked)
			if err != nil {
				return err
			}
			m.source = dir
		}
		mounts = append(mounts, m)
	}
	if len(mounts) == 0 {
		return do(root)
	}
	slices.SortStableFunc(mounts, func(a, b rootMount) int { return strings.Count(a.target, "/") - strings.Count(b.target, "/") })
	type opened struct {
		directory *os.File
		err       error
	}
	ready, done := make(chan opened), make(chan struct{})
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with the thread
		var o opened
		o.err = fault.Contain(e.Log, "mounts of container "+info.ID, func() (err error) {
			o.directory, err = openMounted(root, mounts)
			return err
		})
		ready <- o
		<-done
	}()
	o := <-ready
	defer close(done)
	if o.err != nil {
		return o.err
	}
	defer o.directory.Close()
	return do(handlePath(o.directory))
}

// rootMount is a bind mount to make below the root directory of a container that does not run.
type rootMount struct {
	source, target  string
	readOnly, alone bool // alone: without what is mounted below the source
}

// openMounted gives the calling thread a mount namespace of its own, makes the mounts in it and opens the root directory there.
func openMounted(root string, mounts []rootMount) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("separate mount namespace: %w", err)
	}
	for _, m := range mounts {
		if err := m.mount(root); err != nil {
			return nil, fmt.Errorf("mount %s at %s: %w", m.source, m.target, err)
		}
	}
	return os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0) // #nosec G304 -- where the container's snapshot is mounted
}

// mount makes the mount, and what it is to be mounted on if that is not there.
func (m rootMount) mount(root string) error {
	at, err := continuity.RootPath(root, m.target)
	if err != nil {
		return err
	}
	source, err := os.Stat(m.source)
	if err != nil {
		return err
	}
	if err := makeMountpoint(at, source.IsDir()); err != nil {
		return err
	}
	recursive := uintptr(unix.MS_REC)
	if m.alone {
		recursive = 0
	}
	if err := unix.Mount(m.source, at, "", unix.MS_BIND|recursive, ""); err != nil {
		return err
	}
	if err := unix.Mount("", at, "", unix.MS_PRIVATE|recursive, ""); err != nil || !m.readOnly {
		return err
	}
	if kernelHasMountSetattr() {
		return unix.MountSetattr(-1, at, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	return unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// makeMountpoint makes a directory or an empty file, unless there is something.
func makeMountpoint(at string, directory bool) error {
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if directory {
		return os.MkdirAll(at, 0o755) // #nosec G301 -- the container's users look into it
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil { // #nosec G301 -- as above
		return err
	}
	return os.WriteFile(at, nil, 0o644) // #nosec G306 -- as above
}
