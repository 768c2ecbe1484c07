package container

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// ExecSpec is a command to run in a running container.
type ExecSpec struct {
	Cmd        []string
	Env        []string // "NAME=value", added to the container's
	WorkingDir string   // "" for the container's
	User       string   // "" for the container's
	TTY        bool
	// Stdin, Stdout and Stderr are the streams that a client asked for, to be shown by inspect. Which streams are connected is up to
	// ExecStart.
	Stdin, Stdout, Stderr bool
	Privileged            bool    // with all capabilities
	DetachKeys            string  // as the client gave them, to be shown by inspect
	ConsoleSize           [2]uint // height and width of the terminal; zero leaves them to the kernel
}

// Exec is a command in a container.
type Exec struct {
	ID          string
	ContainerID string
	Spec        ExecSpec

	mu       sync.Mutex     // guards the fields below
	process  client.Process // nil before it runs
	running  bool
	started  bool // somebody has called ExecStart, whether it succeeded or not
	pid      int
	exitCode *int // nil until it has ended or could not be started
}

// ExecState is the state of an Exec at one moment.
type ExecState struct {
	Running  bool
	Started  bool // ExecStart was called, whether the command could be run or not
	PID      int  // in the host's PID namespace; 0 before the command runs
	ExitCode *int // nil until the command has ended; 126 or 127 if it could not be run
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
	c, info, _, err := e.findRunning(ref)
	if err != nil {
		return nil, err
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

// ExecStart runs a command that ExecCreate registered and waits for its end, also when ctx ends first: ctx bounds the start only. A nil
// stdin is empty, output to a nil writer is discarded. ready, unless nil, is called once the command runs. The exit code of the command
// is in its State and is no error; a command that was started before is a conflict.
func (e *Engine) ExecStart(ctx context.Context, id string, stdin io.Reader, stdout, stderr io.Writer, ready func()) error {
	x, err := e.ExecInspect(id)
	if err != nil {
		return err
	}
	c, info, task, err := e.findRunning(x.ContainerID)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
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
	process, exit, err := e.startExec(ctx, lifetime, info, task, x, stdin, stdout, stderr)
	if err != nil {
		code := exitNotExecutable
		if strings.Contains(err.Error(), "no such file") || strings.Contains(err.Error(), "not found") {
			code = exitNotFound
		}
		x.finish(code)
		return err
	}
	e.publish("exec_start: "+strings.Join(x.Spec.Cmd, " "), c, map[string]string{"execID": x.ID})
	if ready != nil {
		ready()
	}
	status := <-exit
	if lifetime.Err() != nil { // the daemon stops, not the command
		return lifetime.Err()
	}
	awaitOutput(process.IO())
	_, _ = process.Delete(context.WithoutCancel(ctx)) // what is left goes with the container
	x.finish(int(status.ExitCode()))
	e.publish("exec_die", c, map[string]string{"execID": x.ID, "exitCode": fmt.Sprint(status.ExitCode())})
	return nil
}

// finish records that a command has ended or could not be run.
func (x *Exec) finish(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running, x.exitCode = false, &code
}

// kill ends a command that takes too long.
func (x *Exec) kill(ctx context.Context) {
	x.mu.Lock()
	process := x.process
	x.mu.Unlock()
	if process != nil {
		_ = process.Kill(ctx, syscall.SIGKILL) // it may have ended
	}
}

// unregisterExec makes the Engine forget a command.
func (e *Engine) unregisterExec(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.execs, id)
}

// removeExecID removes a command that has ended from those that the container's record lists.
func (c *container) removeExecID(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info.ExecIDs = slices.DeleteFunc(slices.Clone(c.info.ExecIDs), func(have string) bool { return have == id })
}
