package container

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"github.com/moby/sys/signal"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Kill sends a container a signal, by name or number; "" means SIGKILL. After SIGKILL it waits for the container's end. A container
// that does not run is a conflict, an unknown signal an invalid argument.
func (e *Engine) Kill(ctx context.Context, ref, sig string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	s, err := parseSignal(cmp.Or(sig, "SIGKILL"))
	if err != nil {
		return err
	}
	info, task, ended := c.currentTask()
	if task == nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, notRunning(info))
	}
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		e.update(c, func(i *Info) { i.Stopped = true })
	}
	e.publish("kill", c, map[string]string{"signal": fmt.Sprint(int(s))})
	if s == syscall.SIGKILL && info.State.Status == Paused {
		_ = task.Resume(ctx)
	}
	if err := sendSignal(ctx, task, s); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	if s == syscall.SIGKILL && !waitFor(ctx, ended, killTimeout) {
		return notEnding(info)
	}
	return nil
}

// killAll ends all processes of a container and returns when the container has been cleaned up after.
func killAll(ctx context.Context, info Info, task client.Task, ended <-chan struct{}) error {
	if err := sendSignal(ctx, task, syscall.SIGKILL, client.WithKillAll); err != nil {
		return fmt.Errorf("kill container %s: %w", info.ID, err)
	}
	if !waitFor(ctx, ended, killTimeout) {
		return notEnding(info)
	}
	return nil
}

// notEnding is the error for a container that the kernel cannot end, as when a process waits for a disk that does not answer.
func notEnding(info Info) error {
	return fmt.Errorf("container %s does not end after SIGKILL: %w", info.ID, errdefs.ErrUnavailable)
}

// sendSignal signals a task's first process, or all with client.WithKillAll. A task that has ended meanwhile is no error: the caller
// waits for its end anyway.
func sendSignal(ctx context.Context, task client.Task, s syscall.Signal, opts ...client.KillOpts) error {
	err := task.Kill(ctx, s, opts...)
	// The shim ends with its container. containerd gives the closed connection to it as text, not as ttrpc.ErrClosed.
	if errdefs.IsNotFound(err) || err != nil && strings.HasSuffix(err.Error(), ttrpc.ErrClosed.Error()) {
		return nil
	}
	return err
}

// parseSignal reads a signal's name, with or without SIG, or number.
func parseSignal(name string) (syscall.Signal, error) {
	s, err := signal.ParseSignal(name)
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return s, nil
}
