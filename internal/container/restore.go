package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Restore reads the records that an earlier run of the daemon left, attaches to the containers that still run and records the exit of
// those that have ended meanwhile. A container whose record is malformed is set aside, with all that is in its directory; what cannot be read for another
// reason, such as a fault of the disk, is tried again later. An error means that the directory of the records cannot be made.
func (e *Engine) Restore(ctx context.Context) error {
	if err := atomicfile.Mkdir(e.Root, 0o710); err != nil {
		return fmt.Errorf("make containers directory: %w", err)
	}
	if err := e.restoreAll(ctx); err != nil {
		e.Quarantine.Retry("containers", err, e.restoreAll)
	}
	return nil
}

// restoreAll restores the containers of all directories. The error is that of the list.
func (e *Engine) restoreAll(ctx context.Context) error {
	dirs, err := os.ReadDir(e.Root)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.listed = true // what is made from now on is not among dirs
	e.mu.Unlock()
	var wg sync.WaitGroup
	for _, d := range dirs {
		wg.Go(func() {
			dir := filepath.Join(e.Root, d.Name())
			if err := quarantine.Guard(func() error { return e.restoreDir(ctx, dir) }); err != nil {
				e.Quarantine.Retry("container "+d.Name(), err, func(ctx context.Context) error { return e.restoreDir(ctx, dir) })
			}
		})
	}
	wg.Wait()
	return nil
}

// restoreDir restores the container of a directory, unless there is none. After an error it can be tried again.
func (e *Engine) restoreDir(ctx context.Context, dir string) error {
	if _, err := e.find(filepath.Base(dir)); err == nil {
		return nil // it was made by this daemon
	}
	info, ok, err := e.readRecord(dir)
	if !ok || err != nil {
		return err
	}
	info.Dir = dir
	info.ExecIDs = nil
	e.restoreContainer(runtime.WithNamespace(ctx), e.register(info))
	return nil
}

// readRecord reads the record in a container's directory. Without one, and after one that is malformed, it is not ok and the directory has been dealt with.
func (e *Engine) readRecord(dir string) (info Info, ok bool, err error) {
	err = atomicfile.ReadJSON(filepath.Join(dir, recordFile), &info)
	switch {
	case err == nil && info.ID == filepath.Base(dir):
		return info, true, nil
	case err == nil:
		err = fmt.Errorf("read %s: %w: it is of container %q", dir, atomicfile.ErrMalformed, info.ID)
	case errors.Is(err, fs.ErrNotExist):
		e.removeRest(dir)
		return Info{}, false, nil
	}
	if errors.Is(err, atomicfile.ErrMalformed) {
		_ = e.Quarantine.SetAside(dir, err) // logged
		return Info{}, false, nil
	}
	return Info{}, false, err
}

// removeRest removes what there is of a container without a record. The daemon was killed while it created the container, and nobody has been told of it,
// or while it removed the container: a record that was once written does not vanish otherwise.
func (e *Engine) removeRest(dir string) {
	err := atomicfile.RemoveAll(dir)
	e.removeImageMounts(runtime.WithNamespace(context.Background()), filepath.Base(dir))
	if removeErr := e.snapshotter().Remove(runtime.WithNamespace(context.Background()), filepath.Base(dir)); !errdefs.IsNotFound(removeErr) {
		err = errors.Join(err, removeErr)
	}
	if err != nil {
		e.Log.Error("what is left of a container that was not created, or removed, cannot be removed; it takes space on the disk", "dir", dir, "err", err)
	}
}

// restoreContainer attaches to a container that the record says runs, or records its exit if it has ended meanwhile. One that does not
// run is started again if its restart policy asks for that.
func (e *Engine) restoreContainer(ctx context.Context, c *container) {
	info, _ := c.snapshot()
	if !running(info.State.Status) {
		c.log.Resume(ctx, e.logStart(c, info, true))
		policy, ended := info.Spec.Restart.Name, info.State.Status == Exited
		if info.State.Status == Restarting || ended && (policy == "always" || policy == "unless-stopped" && !info.Stopped) {
			e.restartAfterWait(c, firstRestartDelay)
		}
		return
	}
	if err := e.reattach(ctx, c, info); err == nil {
		return
	} else if !errdefs.IsNotFound(err) {
		e.Log.Warn("cannot attach to a container that ran when the daemon stopped; it is recorded as ended", "container", info.ID, "err", err)
	}
	c.log.Recover()
	c.log.Resume(ctx, e.logStart(c, info, true))
	code, at := exitKilled, time.Now()
	if exit, ok := e.Runtime.RecordedExit(info.ID); ok {
		code, at = int(exit.Status), exit.At
	}
	e.handleExit(ctx, c, code, at, false)
}

// reattach takes over the task of a running container: its streams, its network and the wait for its end. A task that has ended is a
// not found error.
func (e *Engine) reattach(ctx context.Context, c *container, info Info) error {
	loaded, err := e.Runtime.Client.LoadContainer(ctx, info.ID)
	if err != nil {
		return err
	}
	if err := c.log.Start(ctx, e.logStart(c, info, true)); err != nil {
		e.Log.Error("log driver of a running container cannot be had; what it prints is kept on the node only", "container", info.ID, "err", err)
	}
	task, err := loaded.Task(ctx, cio.NewAttach(e.taskIO(ctx, c, info)...))
	if err != nil {
		return err
	}
	lifetime, endLifetime := e.untilClosed()
	exit, err := task.Wait(lifetime)
	if err != nil {
		endLifetime()
		return err
	}
	sandbox, err := e.Network.Up(ctx, sandboxSpec(info))
	if err != nil {
		e.Log.Error("network of a running container cannot be restored after the restart of the daemon; the container keeps what the kernel has of it", "container", info.ID, "err", err)
		sandbox = info.Sandbox
	}
	c.mu.Lock()
	c.task, c.ended = task, make(chan struct{})
	c.mu.Unlock()
	e.update(c, func(i *Info) { i.Sandbox, i.State.PID = sandbox, int(task.Pid()) })
	e.watchHealth(c)
	e.inBackground(c, "watch", func() {
		defer endLifetime()
		e.monitor(lifetime, c, task, exit)
	})
	return nil
}
