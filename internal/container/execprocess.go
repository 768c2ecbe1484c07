package container

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/container/layers"
	"github.com/shoal-dev/shoal/internal/container/security"
	"github.com/shoal-dev/shoal/internal/container/streams"
	"github.com/shoal-dev/shoal/internal/fault"
)

// startExec starts a command in a container's running task and returns its process with the channel on which its end is reported.
// lifetime is how long the end is waited for.
func (e *Engine) startExec(ctx, lifetime context.Context, info Info, task client.Task, x *Exec, stdin io.Reader, stdout, stderr io.Writer) (client.Process, <-chan client.ExitStatus, error) {
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
	if stdin != nil {
		settled := make(chan struct{}) // closed when process is set, or will never be
		defer close(settled)
		stdin = streams.NotifyEnd(stdin, func() {
			<-settled
			fault.Do(e.Log, "end of an exec's input", func() {
				if process != nil {
					_ = process.CloseIO(context.WithoutCancel(ctx), client.WithStdinCloser) // it may have ended
				}
			})
		})
	}
	process, err = task.Exec(ctx, x.ID, spec, cio.NewCreator(e.fifoOptions(stdin, stdout, stderr, x.Spec.TTY)...))
	if err != nil {
		return nil, nil, fmt.Errorf("failed to exec: %w", err)
	}
	exit, err := process.Wait(lifetime) // before the start, so that no exit is missed
	if err == nil {
		err = process.Start(ctx)
	}
	if err != nil {
		_, _ = process.Delete(context.WithoutCancel(ctx)) // the error of the start says more
		return nil, nil, execError(err)
	}
	x.mu.Lock()
	x.process, x.running, x.pid = process, true, int(process.Pid())
	x.mu.Unlock()
	return process, exit, nil
}

// execProcess makes the OCI process of a command from that of its container.
func (e *Engine) execProcess(ctx context.Context, info Info, x ExecSpec) (*specs.Process, error) {
	root, err := e.snapshotter().Mounts(ctx, info.ID)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	if linked, err := e.linkedEnv(info); err == nil { // whom it is linked to may have ended since
		info.Env = mergeEnv(linked, info.Env)
	}
	dirs := layers.Of(root)
	p, err := ociProcess(&info, dirs)
	if err != nil {
		return nil, err
	}
	p.Args, p.Terminal = x.Cmd, x.TTY
	if x.TTY && x.ConsoleSize != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: x.ConsoleSize[0], Width: x.ConsoleSize[1]}
	}
	p.Env = mergeEnv(p.Env, x.Env)
	if x.TTY && !info.Spec.TTY {
		p.Env = mergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	p.Cwd = cmp.Or(x.WorkingDir, p.Cwd)
	if x.User != "" {
		if p.User, err = dirs.FindUser(x.User, info.Spec.GroupAdd); err != nil {
			return nil, err
		}
	}
	if x.Privileged {
		security.SetCapabilities(p, security.AllCapabilities())
	}
	return p, nil
}

// execError puts the failure to run a command into Docker's words.
func execError(err error) error {
	const prefix = "OCI runtime exec failed: exec failed: "
	return errdefs.ErrInvalidArgument.WithMessage(prefix + strings.TrimPrefix(err.Error(), prefix))
}
