package container

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const defaultShmSize = 64 << 20 // bytes, Docker's

// sharedMemory returns the mount of a container's /dev/shm, which goes with its IPC namespace: none, its own, the host's or another container's. One that
// others may join is mounted on the host, where they find it.
func (e *Engine) sharedMemory(info *Info) ([]specs.Mount, error) {
	size := fmt.Sprintf("size=%d", cmp.Or(info.Spec.ShmSize, defaultShmSize))
	bind := func(source string) []specs.Mount {
		return []specs.Mount{{Destination: "/dev/shm", Type: "bind", Source: source, Options: []string{"rbind", defaultPropagation}}}
	}
	switch mode := info.Spec.IpcMode; {
	case mode == "none":
		return nil, nil
	case mode == "host":
		if _, err := os.Stat("/dev/shm"); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage("/dev/shm is not mounted, but must be for --ipc=host")
		}
		return bind("/dev/shm"), nil
	case mode == "shareable":
		dir := e.shmDir(info.ID)
		if err := mountOnce(dir, func() error {
			return unix.Mount("shm", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=1777,"+size)
		}); err != nil {
			return nil, fmt.Errorf("mount shared memory: %w", err)
		}
		return bind(dir), nil
	case strings.HasPrefix(mode, containerMode):
		donor, err := e.donor(strings.TrimPrefix(mode, containerMode))
		if err != nil {
			return nil, fmt.Errorf("failed to join IPC namespace: %w", err)
		}
		if donor.Spec.IpcMode != "shareable" {
			return nil, errdefs.ErrInvalidArgument.WithMessage("failed to join IPC namespace: container " + donor.ID + ": non-shareable IPC (hint: use IpcMode:shareable for the donor container)")
		}
		return bind(e.shmDir(donor.ID)), nil
	}
	return []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", size}}}, nil
}

// shmDir is where the shared memory of a container is mounted that others may join.
func (e *Engine) shmDir(id string) string { return filepath.Join(e.State, id, "shm") }

// mountOnce makes a directory and mounts something there, unless it is mounted already.
func mountOnce(dir string, do func() error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if mounted, err := mount.Lookup(dir); err == nil && mounted.Mountpoint == dir {
		return nil
	}
	return do()
}
