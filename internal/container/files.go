package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"

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
	Name       string // the last element of the path that was asked for
	LinkTarget string // of a symbolic link, as it is written in the container; else ""
	At         string // the path on the host, good until WithRoot returns; no directory in it is a link, but the file itself may be one
}

// Stat finds a file below a root that WithRoot gave. It does not follow a link at the end of name. A file that is not there is a
// not found error.
func Stat(root, name string) (FileStat, error) {
	clean := path.Join("/", name)
	parent, err := continuity.RootPath(root, path.Dir(clean))
	if err != nil {
		return FileStat{}, fmt.Errorf("find %s: %w", name, err)
	}
	at := filepath.Join(parent, path.Base(clean))
	if clean == "/" {
		at = root + "/." // a running container's root is a link of /proc
	}
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return FileStat{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("Could not find the file %s in container", name))
	}
	if err != nil {
		return FileStat{}, fmt.Errorf("find %s: %w", name, err)
	}
	st := FileStat{Name: path.Base(clean), FileInfo: info, At: at}
	if info.Mode()&os.ModeSymlink != 0 {
		if st.LinkTarget, err = os.Readlink(at); err != nil {
			return st, fmt.Errorf("read link %s: %w", name, err)
		}
	}
	return st, nil
}
