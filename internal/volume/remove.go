package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

// Remove deletes a volume and its data. A volume that containers use is a conflict, also with force; with force a missing volume is
// no error.
func (s *Store) Remove(name string, force bool) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	v, err := s.take(name)
	if err != nil {
		if force && errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	if err := s.removeFiles(v); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.volumes[name] = v
		return fmt.Errorf("remove %s: %w", name, err)
	}
	s.publish("destroy", v, nil)
	return nil
}

// take takes a volume that nobody uses out of the list, so that nobody begins to.
func (s *Store) take(name string) (*Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[name]
	if !ok {
		return nil, notFound(name)
	}
	if users := slices.Sorted(maps.Keys(s.users[name])); len(users) > 0 {
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", ")))
	}
	delete(s.volumes, name)
	return v, nil
}

// removedPrefix begins the names of directories of volumes that are removed: no volume has such a name.
const removedPrefix = ".removed-"

// removeFiles removes a volume's directory. It is renamed first, so that the volume is there with all of its data or not at all, wherever the removal is cut
// off: what is left of it then is removed at the next start.
func (s *Store) removeFiles(v *Volume) error {
	if v.Options["device"] != "" {
		if err := mount.UnmountAll(v.Mountpoint, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.mu.Lock()
		delete(s.mounted, v.Name)
		s.mu.Unlock()
	}
	removed := filepath.Join(s.Root, removedPrefix+v.Name)
	s.removeRest(removed) // of another volume of the name
	dir := filepath.Join(s.Root, v.Name)
	if err := atomicfile.Rename(dir, removed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = os.Rename(removed, dir) // it fails unless only the flush did
		return err
	}
	s.removeRest(removed)
	return nil
}

// removeRest removes the directory of a removed volume.
func (s *Store) removeRest(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.Log.Warn("data of a removed volume cannot be removed; it takes space on the disk until the daemon starts again", "dir", dir, "err", err)
	}
}

// Prune removes the volumes that no container uses: the anonymous ones, or all. It leaves those for which keep, unless nil, is true.
// It returns the names of what was removed and the bytes freed, also with an error.
func (s *Store) Prune(all bool, keep func(*Volume) bool) ([]string, int64, error) {
	var removed []string
	var freed int64
	for _, v := range s.List() {
		if !all && !v.Anonymous || keep != nil && keep(v) || len(s.Users(v.Name)) > 0 {
			continue
		}
		size := Size(v)
		if err := s.Remove(v.Name, false); err != nil {
			if errdefs.IsConflict(err) {
				continue
			}
			return removed, freed, err
		}
		removed, freed = append(removed, v.Name), freed+size
	}
	return removed, freed, nil
}

// Size returns the bytes in a volume's regular files, which it walks. Files that cannot be read count as nothing.
func Size(v *Volume) int64 {
	var total int64
	_ = filepath.WalkDir(v.Mountpoint, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a container may remove files meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}
