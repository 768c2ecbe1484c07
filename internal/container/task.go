package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/logs"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// newTask registers the container with containerd and creates its task, which does not run yet. It writes containerd's record itself,
// because the client's NewContainer makes a lease for it, which takes two more transactions of containerd's database.
func (e *Engine) newTask(ctx context.Context, c *container, info Info, p prepared) (client.Task, error) {
	data, err := json.Marshal(p.spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	program, err := e.ociRuntime(info.Spec.Runtime)
	if err != nil {
		return nil, err
	}
	options, err := typeurl.MarshalAny(e.Runtime.Options(info.Spec.Runtime, program))
	if err != nil {
		return nil, fmt.Errorf("encode options: %w", err)
	}
	record := containers.Container{
		ID: info.ID, Snapshotter: runtime.Snapshotter, SnapshotKey: info.ID,
		Spec:    &rawAny{url: "types.containerd.io/opencontainers/runtime-spec/1/Spec", value: data},
		Runtime: containers.RuntimeInfo{Name: e.Runtime.Shim, Options: options},
	}
	if p.shim != nil {
		record.SandboxID = runtime.Sandbox
	}
	if err := c.log.Start(ctx, e.logStart(c, info, false)); err != nil {
		return nil, createError("failed to initialize logging driver: " + err.Error())
	}
	store := e.Runtime.Client.ContainerService()
	if _, err = store.Create(ctx, record); errdefs.IsAlreadyExists(err) { // left by a daemon that was killed
		_ = store.Delete(ctx, info.ID) // if this fails, so does what follows
		_, err = store.Create(ctx, record)
	}
	if err != nil {
		return nil, fmt.Errorf("register container: %w", err)
	}
	loaded, err := e.Runtime.Client.LoadContainer(ctx, info.ID)
	if err != nil {
		return nil, fmt.Errorf("load container: %w", err)
	}
	task, err := loaded.NewTask(ctx, cio.NewCreator(e.taskIO(ctx, c, info)...), e.Runtime.TaskOptions(p.shim)...)
	if err != nil {
		return nil, taskCreateError(err)
	}
	return task, nil
}

// taskCreateError puts a failed start into Docker's words. A command that cannot be run is an invalid argument.
func taskCreateError(err error) error {
	text := strings.TrimPrefix(err.Error(), "failed to create shim task: ")
	return createError("failed to create shim task: " + text)
}

// createError says in Docker's words why a task could not be created. What looks like a command that cannot be run is an invalid argument.
func createError(text string) error {
	message := "failed to create task for container: " + text
	if strings.Contains(text, "no such file or directory") || strings.Contains(text, "permission denied") || strings.Contains(text, "executable file not found") {
		return errdefs.ErrInvalidArgument.WithMessage(message)
	}
	return errdefs.ErrUnknown.WithMessage(message)
}

// rawAny is a value that is encoded already, in the form that containerd's records take.
type rawAny struct {
	url   string
	value []byte
}

// GetTypeUrl implements typeurl.Any.
func (a *rawAny) GetTypeUrl() string { return a.url }

// GetValue implements typeurl.Any.
func (a *rawAny) GetValue() []byte { return a.value }

// taskIO connects a task's standard streams to the log and the attached clients.
func (e *Engine) taskIO(ctx context.Context, c *container, info Info) []cio.Opt {
	c.log.Begin()
	c.mu.Lock()
	c.stdinEnded = false
	c.mu.Unlock()
	stdout := c.streams.Output(c.log.Writer(logs.Stdout), logs.Stdout)
	stderr := c.streams.Output(c.log.Writer(logs.Stderr), logs.Stderr)
	var stdin io.Reader
	if info.Spec.OpenStdin {
		stdin = c.streams.TaskStdin(func() {
			fault.Do(e.Log, "end of a container's input", func() { c.closeTaskStdin(context.WithoutCancel(ctx)) })
		})
	}
	return e.fifoOptions(stdin, stdout, stderr, info.Spec.TTY)
}

// fifoOptions returns the options by which containerd connects a process's standard streams by FIFOs; a nil stdin is not connected.
func (e *Engine) fifoOptions(stdin io.Reader, stdout, stderr io.Writer, tty bool) []cio.Opt {
	opts := []cio.Opt{cio.WithFIFODir(e.Runtime.FIFODir), cio.WithStreams(stdin, stdout, stderr)}
	if tty {
		opts = append(opts, cio.WithTerminal)
	}
	return opts
}

// closeTaskStdin ends the standard input of the running task. If there is no task yet, recordStart does it.
func (c *container) closeTaskStdin(ctx context.Context) {
	c.mu.Lock()
	task := c.task
	c.stdinEnded = true
	c.mu.Unlock()
	if task != nil {
		_ = task.CloseIO(ctx, client.WithStdinCloser)
	}
}

// outputDrainTimeout bounds the wait for the output of a process that has ended, because a child of it may keep the streams open.
const outputDrainTimeout = 2 * time.Second

// awaitOutput returns when all output of an ended process has been read. It must come before the process is deleted: deleting
// cancels streams that are not open yet, which happens on a busy machine, and their output would be lost.
func awaitOutput(fifos cio.IO) {
	if fifos == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		fifos.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(outputDrainTimeout):
	}
}
