package container

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// ExecSpec is a command to run in a running container.
type ExecSpec struct {
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string
	TTY        bool
	Stdin      bool
	Stdout     bool
	Stderr     bool
	Privileged bool
	DetachKeys string
}

// Exec is a command in a container.
type Exec struct {
	ID          string
	ContainerID string
	Spec        ExecSpec

	mu       sync.Mutex // guards the fields below
	process  client.Process
	running  bool
	started  bool
	pid      int
	exitCode *int
}

// ExecState is the state of an Exec. PID is 0 before it runs, ExitCode is nil until it has ended.
type ExecState struct {
	Running  bool
	Started  bool
	PID      int
	ExitCode *int
}

// State returns the command's state now.
func (x *Exec) State() ExecState {
	x.mu.Lock()
	defer x.mu.Unlock()
	return ExecState{Running: x.running, Started: x.started, PID: x.pid, ExitCode: x.exitCode}
}

// ExecCreate registers a command to be run in a running container. A container that is paused or does not run is a conflict; an
// empty command is an invalid argument.
func (e *Engine) ExecCreate(ref string, spec ExecSpec) (*Exec, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	info, task, _ := c.currentTask()
	if task == nil {
		return nil, notRunning(info)
	}
	if info.State.Status == Paused {
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is paused, unpause the container before exec", ref))
	}
	if len(spec.Cmd) == 0 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("No exec command specified")
	}
	x := &Exec{ID: newID(), ContainerID: info.ID, Spec: spec}
	e.mu.Lock()
	e.execs[x.ID] = x
	e.mu.Unlock()
	c.mu.Lock()
	c.info.ExecIDs = append(slices.Clone(c.info.ExecIDs), x.ID)
	c.mu.Unlock()
	e.publish("exec_create: "+strings.Join(spec.Cmd, " "), c, map[string]string{"execID": x.ID})
	return x, nil
}

// ExecInspect finds a command by its full ID, or fails with a not found error.
func (e *Engine) ExecInspect(id string) (*Exec, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, ok := e.execs[id]
	if !ok {
		return nil, errdefs.ErrNotFound.WithMessage("No such exec instance: " + id)
	}
	return x, nil
}

// ExecStart runs a command that ExecCreate registered and waits for its end. A nil stdin is empty, output to a nil writer is
// discarded. ready, unless nil, is called once the command runs. The exit code of the command is in its State and is no error; a
// command that was started before is a conflict.
func (e *Engine) ExecStart(ctx context.Context, id string, stdin io.Reader, stdout, stderr io.Writer, ready func()) error {
	x, err := e.ExecInspect(id)
	if err != nil {
		return err
	}
	c, err := e.find(x.ContainerID)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	info, task, _ := c.currentTask()
	if task == nil {
		return notRunning(info)
	}
	x.mu.Lock()
	if x.started {
		x.mu.Unlock()
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("Error: Exec command %s has already run", id))
	}
	x.started = true
	x.mu.Unlock()
	defer c.removeExecID(x.ID)
	lifetime, endLifetime := e.untilClosed()
	defer endLifetime()
	process, exit, err := e.execLaunch(ctx, lifetime, info, task, x, stdin, stdout, stderr)
	if err != nil {
		code := 126
		if strings.Contains(err.Error(), "no such file") || strings.Contains(err.Error(), "not found") {
			code = 127
		}
		x.finish(code)
		return err
	}
	e.publish("exec_start: "+strings.Join(x.Spec.Cmd, " "), c, map[string]string{"execID": x.ID})
	if ready != nil {
		ready()
	}
	status := <-exit
	if lifetime.Err() != nil {
		return lifetime.Err()
	}
	awaitOutput(process.IO())
	_, _ = process.Delete(context.WithoutCancel(ctx))
	x.finish(int(status.ExitCode()))
	e.publish("exec_die", c, map[string]string{"execID": x.ID, "exitCode": fmt.Sprint(status.ExitCode())})
	return nil
}

// outputDrainTimeout bounds the wait for the output of a process that has ended, because a child of it may keep the streams open.
const outputDrainTimeout = 2 * time.Second

// awaitOutput returns when all output of an ended process has been read. It must come before the process is deleted: deleting
// cancels streams that are not open yet, which happens on a busy machine, and their output would be lost.
func awaitOutput(streams cio.IO) {
	if streams == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		streams.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(outputDrainTimeout):
	}
}

func (e *Engine) execLaunch(ctx, lifetime context.Context, info Info, task client.Task, x *Exec, stdin io.Reader, stdout, stderr io.Writer) (client.Process, <-chan client.ExitStatus, error) {
	spec, err := e.execProcess(ctx, info, x.Spec)
	if err != nil {
		return nil, nil, err
	}
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	var process client.Process
	opts := []cio.Opt{cio.WithFIFODir(e.Runtime.FIFODir)}
	if stdin != nil {
		in := &stdinEnd{r: stdin, onEOF: func() {
			if process != nil {
				_ = process.CloseIO(context.WithoutCancel(ctx), client.WithStdinCloser)
			}
		}, ready: make(chan struct{})}
		defer close(in.ready)
		opts = append(opts, cio.WithStreams(in, stdout, stderr))
	} else {
		opts = append(opts, cio.WithStreams(nil, stdout, stderr))
	}
	if x.Spec.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	process, err = task.Exec(ctx, x.ID, spec, cio.NewCreator(opts...))
	if err != nil {
		return nil, nil, fmt.Errorf("failed to exec: %w", err)
	}
	exit, err := process.Wait(lifetime)
	if err == nil {
		err = process.Start(ctx)
	}
	if err != nil {
		_, _ = process.Delete(context.WithoutCancel(ctx))
		return nil, nil, execError(err)
	}
	x.mu.Lock()
	x.process, x.running, x.pid = process, true, int(process.Pid())
	x.mu.Unlock()
	return process, exit, nil
}

// execError puts the failure to run a command into Docker's words.
func execError(err error) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("OCI runtime exec failed: exec failed: %s", strings.TrimPrefix(err.Error(), "OCI runtime exec failed: exec failed: ")))
}

// stdinEnd closes a process's standard input when the client's ends, once there is a process.
type stdinEnd struct {
	r     io.Reader
	onEOF func()
	ready chan struct{}
}

func (s *stdinEnd) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil {
		go func() { <-s.ready; s.onEOF() }()
	}
	return n, err
}

func (x *Exec) finish(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running, x.exitCode = false, &code
}

func (c *container) removeExecID(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info.ExecIDs = slices.DeleteFunc(slices.Clone(c.info.ExecIDs), func(have string) bool { return have == id })
}

// ExecResize sets the size of a command's terminal, in characters. A command that does not run is a conflict.
func (e *Engine) ExecResize(ctx context.Context, id string, width, height uint32) error {
	x, err := e.ExecInspect(id)
	if err != nil {
		return err
	}
	x.mu.Lock()
	process := x.process
	x.mu.Unlock()
	if process == nil {
		return fmt.Errorf("cannot resize a stopped exec: %w", errdefs.ErrConflict)
	}
	return process.Resize(runtime.WithNamespace(ctx), width, height)
}

// Resize sets the size of a container's terminal, in characters. A container that does not run is a conflict.
func (e *Engine) Resize(ctx context.Context, ref string, width, height uint32) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	info, task, _ := c.currentTask()
	if task == nil {
		return notRunning(info)
	}
	return task.Resize(runtime.WithNamespace(ctx), width, height)
}

// execProcess builds the OCI process of a command from the one of its container.
func (e *Engine) execProcess(ctx context.Context, info Info, x ExecSpec) (*specs.Process, error) {
	root, err := e.snapshotter().Mounts(ctx, info.ID)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	spec, err := e.ociSpec(&info, root)
	if err != nil {
		return nil, err
	}
	p := spec.Process
	p.Args, p.Terminal = x.Cmd, x.TTY
	p.Env = mergeEnv(p.Env, x.Env)
	if x.TTY && !info.Spec.TTY {
		p.Env = mergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	if x.WorkingDir != "" {
		p.Cwd = x.WorkingDir
	}
	if x.User != "" {
		if p.User, err = findUser(layerDirs(root), x.User, info.Spec.GroupAdd); err != nil {
			return nil, err
		}
	}
	if x.Privileged {
		setCapabilities(p, allCapabilities())
		p.ApparmorProfile = ""
	}
	return p, nil
}
