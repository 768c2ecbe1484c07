package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
)

// FileStat is a file of a container.
type FileStat struct {
	Name string
	fs.FileInfo
	LinkTarget string
	// At is its path on the host. The parent directories are resolved within the container; the file itself may be a link.
	At string
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
