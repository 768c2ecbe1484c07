package container

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Start runs a created or ended container. One that runs already gives a not modified error. If the start fails, the error and a
// shell's exit code (126, 127 or 128) are in the container's State.
func (e *Engine) Start(ctx context.Context, ref string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	return e.startLocked(runtime.WithNamespace(ctx), c)
}

// startLocked starts a container whose op lock is held.
func (e *Engine) startLocked(ctx context.Context, c *container) error {
	c.cancelRestartWait()
	info, _ := c.snapshot()
	if running(info.State.Status) {
		return errdefs.ErrNotModified.WithMessage("container already started")
	}
	if c.isRemoved() {
		return noSuchContainer(info.ID)
	}
	if err := e.launch(ctx, c, info); err != nil {
		e.recordFailedStart(ctx, c, info, err)
		return err
	}
	return nil
}

// recordFailedStart removes what a start has made before it failed, and records why it failed. A container that never ran goes back to
// Created, and is removed if it was to be removed after its end.
func (e *Engine) recordFailedStart(ctx context.Context, c *container, info Info, cause error) {
	e.cleanUp(ctx, c)
	e.update(c, func(i *Info) {
		i.State.Status, i.State.PID, i.State.ExitCode, i.State.Error = Exited, 0, startExitCode(cause), cause.Error()
		i.State.FinishedAt = time.Now().UTC()
		if i.State.StartedAt.IsZero() {
			i.State.Status, i.State.FinishedAt = Created, time.Time{}
		}
	})
	c.log.End()
	c.streams.End()
	if info.Spec.AutoRemove && info.State.StartedAt.IsZero() {
		e.inBackground(c, "removal", func() { _ = e.Remove(context.WithoutCancel(ctx), info.ID, true, true) }) // waits for the lock that this start holds
	}
}

// Exit codes that a container or a command has without having returned one.
const (
	exitNotExecutable = 126 // a shell's for a command that is there but cannot be executed
	exitNotFound      = 127 // a shell's for a command that is not there
	exitNotStarted    = 128 // Docker's for a container that cannot be started for another reason
	exitKilled        = 137 // 128 + 9, for a process that SIGKILL has ended
)

// startExitCode is the exit code that Docker gives a container that could not be started. The runtime's errors come as text only.
func startExitCode(cause error) int {
	contains := func(text string) bool { return strings.Contains(cause.Error(), text) }
	switch {
	case contains("no such file or directory"), contains("not found in $PATH"):
		return exitNotFound
	case contains("permission denied"), contains("is a directory"):
		return exitNotExecutable
	}
	return exitNotStarted
}

// launch sets up the network, the file system and the process of a container, and starts it.
func (e *Engine) launch(ctx context.Context, c *container, info Info) error {
	p, err := e.prepare(ctx, info)
	if err != nil {
		p.shim.Kill()
		return err
	}
	task, err := e.newTask(ctx, c, info, p)
	if err != nil {
		p.shim.Kill()
		return err
	}
	lifetime, endLifetime := e.untilClosed()
	exit, err := task.Wait(lifetime) // before the start, so that no exit is missed
	if err == nil {
		err = task.Start(ctx)
	}
	if err != nil {
		endLifetime()
		_, _ = task.Delete(context.WithoutCancel(ctx), client.WithProcessKill) // the error of the start says more
		return taskCreateError(err)
	}
	e.recordStart(ctx, c, task, p.sandbox)
	e.inBackground(c, "watch", func() {
		defer endLifetime()
		e.monitor(lifetime, c, task, exit)
	})
	e.publish("start", c, nil)
	return nil
}

// prepared is what a container's task is made from.
type prepared struct {
	sandbox shoal.Sandbox
	spec    *specs.Spec
	shim    *runtime.Shim // nil if containerd is to start one
}

// prepare sets up a container's network, its OCI configuration and its shim. The network takes longest, so they are set up at the same
// time. After an error, the caller must still kill the shim.
func (e *Engine) prepare(ctx context.Context, info Info) (prepared, error) {
	var p prepared
	group, workCtx := errgroup.WithContext(ctx)
	work := containedGroup{group, e.Log, "start of container " + info.ID}
	work.Go(func() error {
		var err error
		if p.sandbox, err = e.Network.Up(workCtx, sandboxSpec(info)); err != nil {
			return fmt.Errorf("failed to set up container networking: %w", err)
		}
		return nil
	})
	work.Go(func() error {
		root, err := e.snapshotter().Mounts(workCtx, info.ID)
		if err != nil {
			return fmt.Errorf("mount snapshot: %w", err)
		}
		p.spec, err = e.ociSpec(&info, root)
		return err
	})
	work.Go(func() error {
		var err error
		p.shim, err = e.Runtime.StartShim(info.ID)
		return err
	})
	if err := work.Wait(); err != nil {
		return p, err
	}
	addSandbox(p.spec, p.sandbox)
	return p, nil
}

// containedGroup is a group whose functions' panics are their errors.
type containedGroup struct {
	*errgroup.Group
	log  *slog.Logger
	what string
}

// Go is errgroup's.
func (g containedGroup) Go(f func() error) {
	g.Group.Go(func() error { return fault.Contain(g.log, g.what, f) })
}

// sandboxSpec is the sandbox that a container asks the network for.
func sandboxSpec(info Info) shoal.SandboxSpec {
	s := info.Spec.Network
	s.ContainerID, s.Name, s.Hostname, s.Domainname = info.ID, info.Name, info.Spec.Hostname, info.Spec.Domainname
	s.Exposed = nil
	for _, p := range exposedPorts(info.Spec.ExposedPorts) {
		s.Exposed = append(s.Exposed, shoal.PortBinding{Protocol: shoal.Protocol(p.protocol), Target: uint16(p.number)}) // #nosec G115 -- checked when it was exposed
	}
	return s
}

// recordStart records that a task runs, and starts its health checks.
func (e *Engine) recordStart(ctx context.Context, c *container, task client.Task, sandbox shoal.Sandbox) {
	c.mu.Lock()
	c.task, c.ended = task, make(chan struct{})
	stdinEnded := c.stdinEnded
	c.mu.Unlock()
	if stdinEnded { // it ended before the task existed, so nothing has closed it
		c.closeTaskStdin(context.WithoutCancel(ctx))
	}
	e.update(c, func(i *Info) {
		i.Sandbox, i.Stopped = sandbox, false
		i.State = State{Status: Running, PID: int(task.Pid()), StartedAt: time.Now().UTC(), FinishedAt: i.State.FinishedAt}
		if hasHealthcheck(i.Healthcheck) {
			i.State.Health = &Health{Status: HealthStarting}
		}
	})
	e.watchHealth(c)
}
