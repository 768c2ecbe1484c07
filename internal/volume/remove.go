package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[name]
	if !ok {
		if force {
			return nil
		}
		return notFound(name)
	}
	if users := slices.Sorted(maps.Keys(s.users[name])); len(users) > 0 {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", ")))
	}
	if v.Options["device"] != "" {
		if err := mount.UnmountAll(v.Mountpoint, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		delete(s.mounted, name)
	}
	if err := atomicfile.RemoveAll(filepath.Join(s.Root, name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	delete(s.volumes, name)
	s.publish("destroy", v, nil)
	return nil
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
