package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ChangeKind is how a file of a container differs from the image's. The numbers are those of Docker's API.
type ChangeKind uint8

// The kinds of changes.
const (
	Modified ChangeKind = 0 // the content or the metadata differ
	Added    ChangeKind = 1
	Deleted  ChangeKind = 2
)

// Change is one difference between a container's file system and its image's.
type Change struct {
	Kind ChangeKind
	Path string // absolute, within the container
}

// runtimeMountpoints are the files and directories that the OCI runtime creates in the container's layer as mount points. Docker
// has them in a separate init layer, so its diff does not show them.
func runtimeMountpoints() []string {
	return []string{
		"/.dockerenv", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/mtab",
		"/etc/resolv.conf", "/proc", "/sys", "/dev",
	}
}

// Diff lists the files in which the topmost layer, the container's own, differs from those below, sorted by path; nil if there are
// none. Without a layer, it is an error.
//
// A running container can change the links in its layer at any moment, so that directory is only read through an os.Root, which no
// link leads out of.
func (d Dirs) Diff(ctx context.Context) ([]Change, error) {
	if len(d) == 0 {
		return nil, errors.New("the container has no layers")
	}
	root, err := os.OpenRoot(d[0])
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	defer func() { _ = root.Close() }()
	c := &comparison{top: root, ignored: runtimeMountpoints()}
	if _, _, err := c.compareDir(ctx, "/", d[1:]); err != nil {
		return nil, fmt.Errorf("compare layers: %w", err)
	}
	slices.SortFunc(c.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return c.changes, nil
}

// comparison is a comparison of the top layer with those below it.
type comparison struct {
	top     *os.Root
	ignored []string // paths that are left out where they are new and empty: nobody but the OCI runtime made them
	changes []Change // found so far
}

// add notes a change.
func (c *comparison) add(kind ChangeKind, name string) {
	c.changes = append(c.changes, Change{kind, name})
}

// compareDir compares a directory of the top layer with the directories of lower layers that overlayfs merges it with. changed is true
// if anything in it differs, skipped if it directly holds a mount point that was left out.
func (c *comparison) compareDir(ctx context.Context, dir string, below []string) (changed, skipped bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, false, err
	}
	before := len(c.changes)
	handle, err := c.top.Open(relative(dir))
	if errors.Is(err, fs.ErrNotExist) { // removed since its parent was read
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer func() { _ = handle.Close() }()
	entries, err := handle.ReadDir(-1)
	if err != nil {
		return false, false, err
	}
	present := map[string]bool{}
	for _, entry := range entries {
		present[entry.Name()] = true
		entrySkipped, err := c.compareEntry(ctx, path.Join(dir, entry.Name()), below)
		if err != nil {
			return false, false, err
		}
		skipped = skipped || entrySkipped
	}
	if isOpaque(handle) {
		for _, name := range entryNames(below) {
			if lower, _ := lookupLower(below, name); lower != nil && !present[name] {
				c.add(Deleted, path.Join(dir, name))
			}
		}
	}
	return len(c.changes) > before, skipped, nil
}

// compareEntry compares one file of the top layer, and returns whether it was skipped as a mount point of the OCI runtime.
func (c *comparison) compareEntry(ctx context.Context, name string, below []string) (skipped bool, err error) {
	info, err := c.top.Lstat(relative(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lower, merged := lookupLower(below, path.Base(name))
	switch {
	case isWhiteout(info):
		if lower != nil {
			c.add(Deleted, name)
		}
		return false, nil
	case lower == nil && slices.Contains(c.ignored, name) && (info.IsDir() || info.Size() == 0):
		return true, nil
	case !info.IsDir():
		c.add(kindOf(lower), name)
		return false, nil
	}
	changed, skipped, err := c.compareDir(ctx, name, merged)
	if err != nil {
		return skipped, err
	}
	// Making a mount point changed the directory's modification time, which is no change by the container.
	if lower == nil || !lower.IsDir() || changed || !sameDirectory(info, lower) || !skipped && !info.ModTime().Equal(lower.ModTime()) {
		c.add(kindOf(lower), name)
	}
	return false, nil
}

// kindOf is the kind of change of a file of the top layer, given the file that lower layers have at its place, nil for none.
func kindOf(lower fs.FileInfo) ChangeKind {
	if lower == nil {
		return Added
	}
	return Modified
}

// sameDirectory reports whether two directories have the same owner and permissions.
func sameDirectory(a, b fs.FileInfo) bool {
	x, okX := a.Sys().(*syscall.Stat_t)
	y, okY := b.Sys().(*syscall.Stat_t)
	return okX && okY && x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid
}

// lookupLower finds a name in the merged directories of an image; found is nil if it is in none. For a directory, merged lists the
// directories that overlayfs merges into it.
func lookupLower(dirs []string, name string) (found fs.FileInfo, merged []string) {
	for _, dir := range dirs {
		at := filepath.Join(dir, name)
		info, err := os.Lstat(at)
		if err != nil {
			continue
		}
		if isWhiteout(info) || found != nil && !info.IsDir() {
			break
		}
		if found == nil {
			found = info
		}
		if !info.IsDir() {
			break
		}
		merged = append(merged, at)
		if handle, err := os.Open(at); err == nil { // #nosec G304 -- a layer, which nobody writes
			ends := isOpaque(handle)
			_ = handle.Close()
			if ends {
				break
			}
		}
	}
	return found, merged
}

// entryNames lists what is in any of the directories, sorted.
func entryNames(dirs []string) []string {
	var names []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isWhiteout reports whether a file is overlayfs's mark that the lower layers' file of that name is deleted: a character device
// 0/0 (kernel documentation, overlayfs).
func isWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

// isOpaque reports whether a directory hides the lower layers' directories of that name (the same documentation).
func isOpaque(dir *os.File) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), "trusted.overlay.opaque", value[:]) // #nosec G115 -- a descriptor
	return err == nil && n == 1 && value[0] == 'y'
}

// relative is an absolute path of the container in the form that an os.Root takes.
func relative(name string) string {
	if name == "/" {
		return "."
	}
	return strings.TrimPrefix(name, "/")
}
