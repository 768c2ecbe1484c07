package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountFiles writes a container's secrets and configs to a tmpfs of its own, so that they never reach a disk, and returns one bind mount
// for each. The data is not in the container's record either, so that a container with files cannot be started again after a restart of
// the daemon. Only tasks have files, and a task is started once.
func (e *Engine) mountFiles(info *Info) ([]specs.Mount, error) {
	if len(info.Spec.Files) == 0 {
		return nil, nil
	}
	dir := filepath.Join(e.State, info.ID, "files")
	if err := mountOnce(dir, func() error {
		return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700")
	}); err != nil {
		return nil, fmt.Errorf("mount file directory: %w", err)
	}
	var mounts []specs.Mount
	for n, f := range info.Spec.Files {
		at := filepath.Join(dir, fmt.Sprint(n))
		if f.Data != nil {
			if err := os.WriteFile(at, f.Data, 0o600); err != nil {
				return nil, fmt.Errorf("write %s: %w", f.Target, err)
			}
			if err := errors.Join(os.Chown(at, f.UID, f.GID), os.Chmod(at, os.FileMode(f.Mode))); err != nil {
				return nil, fmt.Errorf("write %s: %w", f.Target, err)
			}
		}
		mounts = append(mounts, specs.Mount{Destination: f.Target, Type: "bind", Source: at, Options: []string{"bind", "rprivate", "ro"}})
	}
	return mounts, nil
}

// removeFiles unmounts and deletes what an ended container had on the host while it ran: secrets and configs, shared memory and mounted images. It does
// nothing if there is none.
func (e *Engine) removeFiles(id string) {
	dir := filepath.Join(e.State, id)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if err := mount.UnmountAll(filepath.Join(dir, entry.Name()), unix.MNT_DETACH); err != nil {
			e.Log.Warn("files of an ended container, perhaps secrets, cannot be unmounted; they stay in memory, readable by root, until the machine restarts",
				"container", id, "what", entry.Name(), "err", err)
			return
		}
	}
	_ = os.RemoveAll(dir)
}
