package container

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Resize sets the size of a container's terminal, in characters. A container that does not run is a conflict.
func (e *Engine) Resize(ctx context.Context, ref string, width, height uint32) error {
	c, _, task, err := e.findRunning(ref)
	if err != nil {
		return err
	}
	if err := task.Resize(runtime.WithNamespace(ctx), width, height); err != nil {
		return err
	}
	e.publish("resize", c, map[string]string{"height": fmt.Sprint(height), "width": fmt.Sprint(width)})
	return nil
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
