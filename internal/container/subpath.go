package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// openBelow opens a path below a directory, without following a link that leads out of it, as a descriptor that can be mounted. Whoever can write to the directory may
// exchange its parts at any moment: so the kernel looks the path up, once, and the descriptor is used from then on.
func openBelow(dir, sub string) (*os.File, error) {
	base, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = base.Close() }()
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd := -1
	for range 32 { // EAGAIN: something was renamed meanwhile
		if fd, err = unix.Openat2(int(base.Fd()), sub, how); !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	path := filepath.Join(dir, sub)
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("path concatenation escapes the base directory, base: %s, subpath: %s", dir, sub))
	case err != nil:
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot access path %s: %v", path, err))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// subpath mounts the nth mount's part of a directory where the container gets it from; it must be there.
func (e *Engine) subpath(id string, n int, dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	at := filepath.Join(e.State, id, "subpath-"+strconv.Itoa(n))
	if mounted, err := mount.Lookup(at); err == nil && mounted.Mountpoint == at {
		return at, nil
	}
	source, err := openBelow(dir, sub)
	if err != nil {
		return "", err
	}
	defer func() { _ = source.Close() }()
	info, err := source.Stat()
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		err = os.MkdirAll(at, 0o700)
	} else if err = os.MkdirAll(filepath.Dir(at), 0o700); err == nil {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err == nil {
		err = unix.Mount(descriptorPath(source), at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return "", fmt.Errorf("mount %s: %w", source.Name(), err)
	}
	return at, nil
}

// descriptorPath is a path to an open file that no rename changes.
func descriptorPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
