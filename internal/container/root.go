package container

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// WithRoot calls do with the host directory at which a container's file system is visible with its mounts, and returns the error of do. What a
// container has in memory only is there while it runs.
//
// A running container can be stopped and removed before do returns, because do may take as long as a client takes to send or receive
// an archive. The container's mounts end with it; WithRoot then returns a conflict, even if do has returned nil. A container that does
// not run cannot be started or removed before do returns, because overlayfs must not mount one snapshot twice at a time.
func (e *Engine) WithRoot(ctx context.Context, ref string, do func(root string) error) error {
	return e.withRoot(ctx, ref, do, e.withMounts)
}

// WithOwnFiles is WithRoot without the mounts of a container that does not run.
func (e *Engine) WithOwnFiles(ctx context.Context, ref string, do func(root string) error) error {
	return e.withRoot(ctx, ref, do, func(_ Info, root string, do func(root string) error) error { return do(root) })
}

// withRoot calls do with the root directory of a running container, and stopped with that of any other.
func (e *Engine) withRoot(ctx context.Context, ref string, do func(root string) error, stopped func(Info, string, func(string) error) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	info, _ := c.snapshot()
	if info.State.PID == 0 {
		defer c.op.Unlock()
		mounts, err := e.snapshotter().Mounts(runtime.WithNamespace(ctx), info.ID)
		if err != nil {
			return fmt.Errorf("mount snapshot: %w", err)
		}
		var doErr error // apart from the mount's, which would name the temporary directory
		err = mount.WithTempMount(ctx, mounts, func(root string) error { doErr = stopped(info, root, do); return nil })
		return cmp.Or(doErr, err)
	}
	root, err := openProcessRoot(info.State.PID)
	c.op.Unlock()
	if err != nil {
		return fmt.Errorf("open file system of container %s: %w", info.ID, err)
	}
	defer root.close()
	if err := do(root.path()); err != nil {
		return err
	}
	if root.processEnded() {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s ended while its files were copied: the copy may be incomplete", info.ID))
	}
	return nil
}

// processRoot is the root directory of a process, held open. /proc/<pid>/root alone would not do: once the process has ended, its ID
// can become that of another one, whose files must never be taken for the container's.
type processRoot struct {
	process   *os.Process
	directory *os.File
}

// openProcessRoot opens the root directory of a process. The caller closes it.
func openProcessRoot(pid int) (*processRoot, error) {
	process, err := os.FindProcess(pid) // holds on to this very process where the kernel has pidfd_open (Linux 5.3)
	if err != nil {
		return nil, err
	}
	directory, err := os.OpenFile(rootLink(pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		_ = process.Release()
		return nil, err
	}
	return &processRoot{process: process, directory: directory}, nil
}

// rootLink is the link through which the kernel shows a process's root directory. It leads nowhere once the process has ended.
func rootLink(pid int) string { return fmt.Sprintf("/proc/%d/root", pid) }

// path returns a path of the directory that is good until close, for this process and those that it starts.
func (r *processRoot) path() string { return handlePath(r.directory) }

// handlePath is the path of an open directory, whatever mount namespace it is in.
func handlePath(directory *os.File) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), directory.Fd())
}

// processEnded reports whether the process has ended, so that what was mounted in its mount namespace may be gone.
func (r *processRoot) processEnded() bool {
	if r.process.Signal(syscall.Signal(0)) != nil {
		return true
	}
	_, err := os.Stat(rootLink(r.process.Pid) + "/") // a process that nobody has waited for yet takes signals, but has no root
	return err != nil
}

// close releases the directory.
func (r *processRoot) close() {
	_ = r.directory.Close() // nothing is written through it
	_ = r.process.Release()
}
