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
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Restore reads the records that an earlier run of the daemon left, attaches to the containers that still run and records the exit of
// those that have ended meanwhile. A container whose record is malformed is set aside, with all that is in its directory; one whose record cannot be
// read for another reason, such as a fault of the disk, is left for the next start. An error means that the directory of the records cannot be used.
func (e *Engine) Restore(ctx context.Context) error {
	if err := atomicfile.Mkdir(e.Root, 0o710); err != nil {
		return fmt.Errorf("make containers directory: %w", err)
	}
	dirs, err := os.ReadDir(e.Root)
	if err != nil {
		return fmt.Errorf("read containers: %w", err)
	}
	ctx = runtime.WithNamespace(ctx)
	var wg sync.WaitGroup
	for _, d := range dirs {
		dir := filepath.Join(e.Root, d.Name())
		info, ok := e.readRecord(dir)
		if !ok {
			continue
		}
		info.Dir = dir
		info.ExecIDs = nil
		c := e.register(info)
		wg.Go(func() { e.restoreContainer(ctx, c) })
	}
	wg.Wait()
	return nil
}

// readRecord reads the record in a container's directory. Without a usable one it is not ok, and the directory has been dealt with.
func (e *Engine) readRecord(dir string) (info Info, ok bool) {
	err := atomicfile.ReadJSON(filepath.Join(dir, recordFile), &info)
	switch {
	case err == nil && info.ID == filepath.Base(dir):
		return info, true
	case err == nil:
		err = fmt.Errorf("read %s: %w: it is of container %q", dir, atomicfile.ErrMalformed, info.ID)
	case errors.Is(err, fs.ErrNotExist):
		// The daemon was killed while it created the container, and nobody has been told of it, or while it removed the container: a record that was once
		// written does not vanish otherwise.
		if err := atomicfile.RemoveAll(dir); err != nil {
			e.Log.Error("directory of a container that was not created, or removed, cannot be removed", "dir", dir, "err", err)
		}
		return Info{}, false
	}
	if errors.Is(err, atomicfile.ErrMalformed) {
		_ = e.Quarantine.SetAside(dir, err) // logged
	} else {
		e.Log.Error("container record cannot be read; the container is left alone until the daemon starts again", "dir", dir, "err", err)
	}
	return Info{}, false
}

// restoreContainer attaches to a container that the record says runs, or records its exit if it has ended meanwhile. One that does not
// run is started again if its restart policy asks for that.
func (e *Engine) restoreContainer(ctx context.Context, c *container) {
	info, _ := c.snapshot()
	if !running(info.State.Status) {
		if info.State.Status == Restarting || info.Spec.Restart.Name == "always" && info.State.Status == Exited {
			e.restartAfterWait(c, firstRestartDelay)
		}
		return
	}
	if err := e.reattach(ctx, c, info); err == nil {
		return
	} else if !errdefs.IsNotFound(err) {
		e.Log.Warn("cannot attach to a container that ran when the daemon stopped; it is recorded as ended", "container", info.ID, "err", err)
	}
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
	e.background.Go(func() {
		defer endLifetime()
		e.monitor(lifetime, c, task, exit)
	})
	return nil
}
