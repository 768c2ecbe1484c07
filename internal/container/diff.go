package container

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

	"github.com/shoal-dev/shoal/internal/runtime"
)

// ChangeKind is how a file of a container differs from the image's; the numbers are Docker's.
type ChangeKind uint8

const (
	Modified ChangeKind = iota // 0: content or metadata differ
	Added                      // 1
	Deleted                    // 2
)

// Change is one difference between a container's file system and its image's. Path is absolute within the container.
type Change struct {
	Kind ChangeKind
	Path string
}

// Diff lists the files that differ between a container and its image, sorted by path; nil if none do.
func (e *Engine) Diff(ctx context.Context, ref string) ([]Change, error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return nil, err
	}
	mounts, err := e.snapshotter().Mounts(runtime.WithNamespace(ctx), info.ID)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	dirs := layerDirs(mounts)
	if len(dirs) == 0 {
		return nil, fmt.Errorf("find layers of container %s: none", info.ID)
	}
	return diffLayers(ctx, dirs[0], dirs[1:])
}

// runtimeMountpoints are the files and directories that the OCI runtime creates in the container's layer as mount points. Docker
// has them in a separate init layer, so its diff does not show them.
func runtimeMountpoints() []string {
	return []string{
		"/.dockerenv", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/mtab",
		"/etc/resolv.conf", "/proc", "/sys", "/dev",
	}
}

// diffLayers compares the top directory of an overlay with those below, the highest first. A running container can change the
// links in the top directory at any moment, so that directory is only read through an os.Root, which cannot be left by a link.
func diffLayers(ctx context.Context, top string, below []string) ([]Change, error) {
	root, err := os.OpenRoot(top)
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	defer func() { _ = root.Close() }()
	d := &differ{root: root, hidden: runtimeMountpoints()}
	if _, _, err := d.compare(ctx, "/", below); err != nil {
		return nil, fmt.Errorf("compare layers: %w", err)
	}
	slices.SortFunc(d.found, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.found, nil
}

type differ struct {
	root   *os.Root
	hidden []string
	found  []Change
}

func (d *differ) add(kind ChangeKind, name string) { d.found = append(d.found, Change{kind, name}) }

// compare compares a directory of the top layer with the lower directories that it is merged with. changed is true if anything in
// it differs, skipped if it holds a mount point of the runtime.
func (d *differ) compare(ctx context.Context, dir string, below []string) (changed, skipped bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, false, err
	}
	before := len(d.found)
	handle, err := d.root.Open(relative(dir))
	if errors.Is(err, fs.ErrNotExist) { // removed while we look
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
		entrySkipped, err := d.entry(ctx, path.Join(dir, entry.Name()), below)
		if err != nil {
			return false, false, err
		}
		skipped = skipped || entrySkipped
	}
	if isOpaque(handle) {
		for _, name := range entryNames(below) {
			if lower, _ := lookupLower(below, name); lower != nil && !present[name] {
				d.add(Deleted, path.Join(dir, name))
			}
		}
	}
	return len(d.found) > before, skipped, nil
}

// entry compares one file of the top layer, and returns whether it was skipped as a mount point of the runtime.
func (d *differ) entry(ctx context.Context, name string, below []string) (skipped bool, err error) {
	info, err := d.root.Lstat(relative(name))
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
			d.add(Deleted, name)
		}
		return false, nil
	case lower == nil && slices.Contains(d.hidden, name) && (info.IsDir() || info.Size() == 0):
		return true, nil
	case !info.IsDir():
		d.add(kindOf(lower), name)
		return false, nil
	}
	changed, skipped, err := d.compare(ctx, name, merged)
	if err != nil {
		return skipped, err
	}
	// Making a mount point changed the directory's modification time, which is no change by the container.
	if lower == nil || !lower.IsDir() || changed || !sameDirectory(info, lower) || !skipped && !info.ModTime().Equal(lower.ModTime()) {
		d.add(kindOf(lower), name)
	}
	return false, nil
}

func kindOf(lower fs.FileInfo) ChangeKind {
	if lower == nil {
		return Added
	}
	return Modified
}

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

func relative(name string) string {
	if name == "/" {
		return "."
	}
	return strings.TrimPrefix(name, "/")
}
