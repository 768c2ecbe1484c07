package container

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/logs"
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
	c.cancelRetry()
	info, _ := c.snapshot()
	if running(info.State.Status) {
		return errdefs.ErrNotModified.WithMessage("container already started")
	}
	if c.isRemoved() {
		return noSuchContainer(info.ID)
	}
	err := e.launch(ctx, c, info)
	if err == nil {
		return nil
	}
	code := 128
	switch {
	case strings.Contains(err.Error(), "no such file or directory"), strings.Contains(err.Error(), "not found in $PATH"):
		code = 127
	case strings.Contains(err.Error(), "permission denied"), strings.Contains(err.Error(), "is a directory"):
		code = 126
	}
	e.cleanUp(ctx, c)
	e.update(c, func(i *Info) {
		i.State.Status, i.State.PID, i.State.ExitCode, i.State.Error, i.State.FinishedAt = Exited, 0, code, err.Error(), time.Now().UTC()
		if i.State.StartedAt.IsZero() {
			i.State.Status, i.State.FinishedAt = Created, time.Time{}
		}
	})
	c.stdio.disconnectAll()
	if info.Spec.AutoRemove && info.State.StartedAt.IsZero() {
		e.background.Go(func() { _ = e.Remove(context.WithoutCancel(ctx), info.ID, true, true) }) // waits for the lock that this start holds
	}
	return err
}

// launch sets up the network, the file system and the process of a container, and starts it. The network takes longest, so the
// rest is prepared at the same time.
func (e *Engine) launch(ctx context.Context, c *container, info Info) error {
	netSpec := info.Spec.Network
	netSpec.ContainerID, netSpec.Name, netSpec.Hostname, netSpec.Domainname = info.ID, info.Name, info.Spec.Hostname, info.Spec.Domainname
	var (
		sandbox shoal.Sandbox
		spec    *specs.Spec
		root    []mount.Mount
		shim    *runtime.Shim
	)
	work, workCtx := errgroup.WithContext(ctx)
	work.Go(func() error {
		var err error
		if sandbox, err = e.Network.Up(workCtx, netSpec); err != nil {
			return fmt.Errorf("failed to set up container networking: %w", err)
		}
		return nil
	})
	work.Go(func() error {
		var err error
		if root, err = e.snapshotter().Mounts(workCtx, info.ID); err != nil {
			return fmt.Errorf("mount snapshot: %w", err)
		}
		spec, err = e.ociSpec(&info, root)
		return err
	})
	work.Go(func() error {
		var err error
		shim, err = e.Runtime.StartShim(info.ID)
		return err
	})
	if err := work.Wait(); err != nil {
		shim.Kill()
		return err
	}
	sandboxMounts(spec, sandbox)
	task, err := e.newTask(ctx, c, info, shim, spec)
	if err != nil {
		shim.Kill()
		return err
	}
	lifetime, endLifetime := e.untilClosed()
	exit, err := task.Wait(lifetime)
	if err == nil {
		err = task.Start(ctx)
	}
	if err != nil {
		endLifetime()
		_, _ = task.Delete(context.WithoutCancel(ctx), client.WithProcessKill)
		return taskCreateError(err)
	}
	e.recordStart(ctx, c, task, sandbox, info)
	e.background.Go(func() {
		defer endLifetime()
		e.monitor(lifetime, c, task, exit)
	})
	e.publish("start", c, nil)
	return nil
}

// newTask registers the container with containerd and creates its task. It writes the record directly, because the client's
// NewContainer adds a lease, which costs two more transactions.
func (e *Engine) newTask(ctx context.Context, c *container, info Info, shim *runtime.Shim, spec *specs.Spec) (client.Task, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	options, err := typeurl.MarshalAny(e.Runtime.Options())
	if err != nil {
		return nil, fmt.Errorf("encode options: %w", err)
	}
	record := containers.Container{
		ID: info.ID, Snapshotter: runtime.Snapshotter, SnapshotKey: info.ID,
		Spec:    &rawAny{url: "types.containerd.io/opencontainers/runtime-spec/1/Spec", value: data},
		Runtime: containers.RuntimeInfo{Name: e.Runtime.Shim, Options: options},
	}
	if shim != nil {
		record.SandboxID = runtime.Sandbox
	}
	store := e.Runtime.Client.ContainerService()
	if _, err = store.Create(ctx, record); errdefs.IsAlreadyExists(err) {
		_ = store.Delete(ctx, info.ID)
		_, err = store.Create(ctx, record)
	}
	if err != nil {
		return nil, fmt.Errorf("register container: %w", err)
	}
	loaded, err := e.Runtime.Client.LoadContainer(ctx, info.ID)
	if err != nil {
		return nil, fmt.Errorf("load container: %w", err)
	}
	task, err := loaded.NewTask(ctx, cio.NewCreator(e.ioOptions(ctx, c, info)...), e.Runtime.TaskOptions(shim)...)
	if err != nil {
		return nil, taskCreateError(err)
	}
	return task, nil
}

// taskCreateError puts a failed start into Docker's words.
func taskCreateError(err error) error {
	text := strings.TrimPrefix(err.Error(), "failed to create shim task: ")
	message := "failed to create task for container: failed to create shim task: " + text
	if strings.Contains(text, "no such file or directory") || strings.Contains(text, "permission denied") || strings.Contains(text, "executable file not found") {
		return errdefs.ErrInvalidArgument.WithMessage(message)
	}
	return errdefs.ErrUnknown.WithMessage(message)
}

type rawAny struct {
	url   string
	value []byte
}

func (a *rawAny) GetTypeUrl() string { return a.url }

func (a *rawAny) GetValue() []byte { return a.value }

// ioOptions connects a task's standard streams to the log and the attached clients.
func (e *Engine) ioOptions(ctx context.Context, c *container, info Info) []cio.Opt {
	c.log.Begin()
	c.mu.Lock()
	c.stdinEnded = false
	c.mu.Unlock()
	out := c.stdio.output(c.log.Writer(logs.Stdout), false)
	errOut := c.stdio.output(c.log.Writer(logs.Stderr), true)
	opts := []cio.Opt{cio.WithFIFODir(e.Runtime.FIFODir)}
	if info.Spec.OpenStdin {
		opts = append(opts, cio.WithStreams(c.stdio.taskStdin(func() { c.closeTaskStdin(context.WithoutCancel(ctx)) }), out, errOut))
	} else {
		opts = append(opts, cio.WithStreams(nil, out, errOut))
	}
	if info.Spec.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	return opts
}

func (c *container) closeTaskStdin(ctx context.Context) {
	c.mu.Lock()
	task := c.task
	c.stdinEnded = true
	c.mu.Unlock()
	if task != nil {
		_ = task.CloseIO(ctx, client.WithStdinCloser)
	}
}

// recordStart records that a task runs, and starts its health checks.
func (e *Engine) recordStart(ctx context.Context, c *container, task client.Task, sandbox shoal.Sandbox, info Info) {
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
		if hasHealthcheck(info.Healthcheck) {
			i.State.Health = &Health{Status: HealthStarting}
		}
	})
	c.watchHealth(e)
}

// monitor waits for a task's end and cleans up after it.
func (e *Engine) monitor(ctx context.Context, c *container, task client.Task, exit <-chan client.ExitStatus) {
	status, ok := <-exit
	if !ok || ctx.Err() != nil {
		return // the daemon stops, not the container
	}
	code, at := int(status.ExitCode()), status.ExitTime()
	if status.Error() != nil { // the shim was killed, and its container with it
		code, at = 137, time.Now().UTC()
	}
	info, _ := c.snapshot()
	oom := code == 137 && e.oomKilled(info.ID)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	awaitOutput(task.IO())
	if _, err := task.Delete(ctx, client.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("task cannot be deleted", "container", info.ID, "err", err)
	}
	e.handleExit(ctx, c, code, at, oom, "")
}

// handleExit cleans up after a container that ended, records how it ended, and restarts or removes it as its spec says.
func (e *Engine) handleExit(ctx context.Context, c *container, code int, at time.Time, oom bool, problem string) {
	e.cleanUp(ctx, c)
	c.mu.Lock()
	c.task = nil
	ended := c.ended
	c.ended = nil
	info := c.info
	c.mu.Unlock()
	restart, delay := e.restartPolicy(info, code)
	e.update(c, func(i *Info) {
		i.State.Status, i.State.PID, i.State.ExitCode, i.State.OOMKilled, i.State.FinishedAt = Exited, 0, code, oom, at.UTC()
		i.State.Error = problem
		if restart {
			i.State.Status = Restarting
			i.RestartCount++
		}
		if i.State.Health != nil && i.State.Health.Status == HealthStarting {
			i.State.Health.Status = Unhealthy
		}
	})
	c.log.End()
	c.stdio.disconnectAll()
	if ended != nil {
		close(ended)
	}
	if oom {
		e.publish("oom", c, nil)
	}
	e.publish("die", c, map[string]string{"exitCode": fmt.Sprint(code), "execDuration": fmt.Sprint(int(at.Sub(info.State.StartedAt).Seconds()))})
	switch {
	case restart:
		e.restartLater(c, delay)
	case info.Spec.AutoRemove:
		e.background.Go(func() {
			if err := e.Remove(context.WithoutCancel(ctx), info.ID, true, true); err != nil && !errdefs.IsNotFound(err) {
				e.Log.Warn("container cannot be removed", "container", info.ID, "err", err)
			}
		})
	}
}

// cleanUp removes what a start made besides the task: sandbox, containerd record, secrets, cgroup.
func (e *Engine) cleanUp(ctx context.Context, c *container) {
	info, _ := c.snapshot()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := e.Network.Down(ctx, info.ID); err != nil {
		e.Log.Warn("sandbox cannot be removed; its namespace and addresses stay in use", "container", info.ID, "err", err)
	}
	if err := e.Runtime.Client.ContainerService().Delete(ctx, info.ID); err != nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("container cannot be unregistered", "container", info.ID, "err", err)
	}
	for _, m := range info.Mounts {
		if m.Type == "volume" {
			e.Volumes.PublishUnmount(m.Name, info.ID)
		}
	}
	e.Runtime.ForgetShim(info.ID)
	e.removeFiles(info.ID)
	e.removeCgroup(e.cgroupPath(info))
}

const (
	firstRestartDelay = 100 * time.Millisecond
	maxRestartDelay   = time.Minute
)

// restartPolicy returns whether a container that ended is started again, and after what delay.
func (e *Engine) restartPolicy(info Info, code int) (bool, time.Duration) {
	if info.Stopped {
		return false, 0
	}
	switch info.Spec.Restart.Name {
	case "always", "unless-stopped":
	case "on-failure":
		if code == 0 || info.Spec.Restart.MaxRetries > 0 && info.RestartCount >= info.Spec.Restart.MaxRetries {
			return false, 0
		}
	default:
		return false, 0
	}
	delay := firstRestartDelay << min(info.RestartCount, 10)
	if time.Since(info.State.StartedAt) > 10*time.Second {
		delay = firstRestartDelay
	}
	return true, min(delay, maxRestartDelay)
}

func (e *Engine) restartLater(c *container, delay time.Duration) {
	waiting, cancel := e.untilClosed()
	c.mu.Lock()
	c.retry = cancel
	c.mu.Unlock()
	e.background.Go(func() {
		defer cancel()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-waiting.Done():
			return
		case <-timer.C:
		}
		c.op.Lock()
		defer c.op.Unlock()
		if waiting.Err() != nil {
			return
		}
		ctx, done := e.untilClosed() // of its own, because startLocked ends the wait for a restart
		defer done()
		if err := e.startLocked(ctx, c); err != nil && !errdefs.IsNotModified(err) {
			e.Log.Warn("container cannot be restarted by its restart policy", "err", err)
		}
	})
}

func (c *container) cancelRetry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retry != nil {
		c.retry()
		c.retry = nil
	}
}

func (c *container) isRemoved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removed
}

// restoreContainer attaches to a container after a restart of the daemon, or records its exit if it has ended meanwhile.
func (e *Engine) restoreContainer(ctx context.Context, c *container) {
	info, _ := c.snapshot()
	if !running(info.State.Status) {
		if info.State.Status == Restarting || info.Spec.Restart.Name == "always" && info.State.Status == Exited {
			e.restartLater(c, firstRestartDelay)
		}
		return
	}
	if err := e.reattach(ctx, c, info); err == nil {
		return
	} else if !errdefs.IsNotFound(err) {
		e.Log.Warn("running container cannot be attached to after the restart of the daemon; it is recorded as ended", "container", info.ID, "err", err)
	}
	code, at := 137, time.Now()
	if exit, ok := e.Runtime.RecordedExit(info.ID); ok {
		code, at = int(exit.Status), exit.At
	}
	e.handleExit(ctx, c, code, at, false, "")
}

func (e *Engine) reattach(ctx context.Context, c *container, info Info) error {
	loaded, err := e.Runtime.Client.LoadContainer(ctx, info.ID)
	if err != nil {
		return err
	}
	task, err := loaded.Task(ctx, cio.NewAttach(e.ioOptions(ctx, c, info)...))
	if err != nil {
		return err
	}
	lifetime, endLifetime := e.untilClosed()
	exit, err := task.Wait(lifetime)
	if err != nil {
		endLifetime()
		return err
	}
	spec := info.Spec.Network
	spec.ContainerID, spec.Name, spec.Hostname, spec.Domainname = info.ID, info.Name, info.Spec.Hostname, info.Spec.Domainname
	sandbox, err := e.Network.Up(ctx, spec)
	if err != nil {
		e.Log.Error("sandbox of a running container cannot be restored; the container keeps the network it has", "container", info.ID, "err", err)
		sandbox = info.Sandbox
	}
	c.mu.Lock()
	c.task, c.ended = task, make(chan struct{})
	c.mu.Unlock()
	e.update(c, func(i *Info) { i.Sandbox, i.State.PID = sandbox, int(task.Pid()) })
	c.watchHealth(e)
	e.background.Go(func() {
		defer endLifetime()
		e.monitor(lifetime, c, task, exit)
	})
	return nil
}

func notRunning(info Info) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", info.ID))
}
