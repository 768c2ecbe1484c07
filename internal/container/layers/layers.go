// Package layers reads a container's file system from the directories that overlayfs is made of, without mounting it: who its users
// are and which files the container has changed. It writes nothing.
package layers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
)

// Dirs are the host directories of a file system's layers, the topmost first. The topmost is the container's own, which it writes to.
type Dirs []string

// Of returns the layers of a snapshot, by the mounts that containerd's overlayfs snapshotter gives for it. A snapshot of one layer
// needs no overlay and is a bind mount.
func Of(snapshot []mount.Mount) Dirs {
	var dirs Dirs
	for _, m := range snapshot {
		if m.Type == "bind" {
			dirs = append(dirs, m.Source)
		}
		for _, o := range m.Options {
			if upper, ok := strings.CutPrefix(o, "upperdir="); ok {
				dirs = append(Dirs{upper}, dirs...)
			}
			if lower, ok := strings.CutPrefix(o, "lowerdir="); ok {
				dirs = append(dirs, strings.Split(lower, ":")...)
			}
		}
	}
	return dirs
}

// HasDir reports whether any layer has a directory of this name, which is relative to the root. It does not regard deletions: that
// a lower layer has it does not mean that the container sees it.
func (d Dirs) HasDir(name string) bool {
	return slices.ContainsFunc(d, func(dir string) bool {
		info, err := os.Lstat(filepath.Join(dir, name))
		return err == nil && info.IsDir()
	})
}

// read returns the content of a file as the container sees it, nil if it has none. name is relative to the root. It does not follow
// links, because a link in a layer could lead out of the container.
func (d Dirs) read(name string) []byte {
	for _, dir := range d {
		info, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.Mode().IsRegular() { // overlayfs's mark of a deleted file is a device
			return nil
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil
		}
		defer root.Close()
		data, err := root.ReadFile(name)
		if err != nil {
			return nil
		}
		return data
	}
	return nil
}
