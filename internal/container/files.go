package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/moby/go-archive"

	"github.com/shoal-dev/shoal/internal/container/layers"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Diff lists the files that differ between a container and its image, sorted by path; nil if none do.
func (e *Engine) Diff(ctx context.Context, ref string) ([]layers.Change, error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return nil, err
	}
	mounts, err := e.snapshotter().Mounts(runtime.WithNamespace(ctx), info.ID)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	changes, err := layers.Of(mounts).Diff(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare container %s with its image: %w", info.ID, err)
	}
	return changes, nil
}

// FileStat is a file of a container.
type FileStat struct {
	fs.FileInfo
	Name       string // the last element of the path that was asked for; "/" for the root, "." for a directory that was asked for so
	LinkTarget string // of a symbolic link, the path in the container that it leads to; else ""
	At         string // the path on the host, good until WithRoot returns; no directory in it is a link, but the file itself may be one
}

// Stat finds a file below a root that WithRoot gave. It follows a link at the end of name only if a slash or a dot comes after it, which asks for a
// directory. A file that is not there is fs.ErrNotExist, what is to be a directory and is none is syscall.ENOTDIR; the errors name no path of the host.
func Stat(root, name string) (FileStat, error) {
	clean := path.Join("/", name)
	asked := archive.PreserveTrailingDotOrSeparator(clean, name)
	st := FileStat{Name: filepath.Base(asked)}
	find := func(name string) (string, error) {
		at, err := continuity.RootPath(root, name)
		return at, hostPathError("lstat", name, err)
	}
	var err error
	if asked != clean || clean == "/" {
		st.At, err = find(clean)
		st.At += "/." // fails for what is no directory; a running container's root is a link of /proc
	} else {
		st.At, err = find(path.Dir(clean))
		st.At = filepath.Join(st.At, path.Base(clean))
	}
	if err != nil {
		return st, err
	}
	if st.FileInfo, err = os.Lstat(st.At); err != nil {
		return st, hostPathError("lstat", name, err)
	}
	if st.Mode()&os.ModeSymlink != 0 {
		target, err := find(clean)
		if err != nil {
			return st, err
		}
		st.LinkTarget = path.Join("/", strings.TrimPrefix(target, root))
	}
	return st, nil
}

// hostPathError is an error of the system about a file of a container, with its path there.
func hostPathError(op, name string, err error) error {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		return &fs.PathError{Op: op, Path: name, Err: cause.Err}
	}
	return err
}

// Owner is the user and group that a container's processes have by default; ok is false if it names none, so that they are root's.
func (e *Engine) Owner(ctx context.Context, ref string) (uid, gid int, ok bool, err error) {
	info, err := e.Inspect(ref)
	if err != nil || info.User == "" {
		return 0, 0, false, err
	}
	mounts, err := e.snapshotter().Mounts(runtime.WithNamespace(ctx), info.ID)
	if err != nil {
		return 0, 0, false, fmt.Errorf("mount snapshot: %w", err)
	}
	user, err := layers.Of(mounts).FindUser(info.User, nil)
	return int(user.UID), int(user.GID), err == nil, err
}

// CheckWritable refuses a path of a container, without links, that its processes cannot write to, in Docker's words.
func CheckWritable(info Info, at string) error {
	readOnly, what := info.Spec.ReadOnly, "container rootfs is marked read-only"
	longest := 0
	for _, p := range info.Mounts {
		if isBelow(at, p.Target) && len(p.Target) > longest {
			longest, readOnly, what = len(p.Target), !p.RW, "mounted volume is marked read-only"
		}
	}
	if readOnly {
		return errdefs.ErrInvalidArgument.WithMessage(what)
	}
	return nil
}
