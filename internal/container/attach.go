package container

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/logs"
)

// AttachSpec says what a client attaches to. A nil stream is not attached.
type AttachSpec struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Logs           bool // first send what the container has printed so far
	Stream         bool // then stay until the container ends; else return
}

// Attach connects a client to a container until the container ends or ctx is done; both return nil. The container need not run
// yet. ready must not be nil; it is called once the client receives all output from then on. Attaching to a paused container is
// a conflict.
func (e *Engine) Attach(ctx context.Context, ref string, a AttachSpec, ready func()) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	info, _ := c.snapshot()
	if info.State.Status == Paused {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is paused, unpause the container before attach", info.ID))
	}
	ended, detach := c.streams.Attach(a.Stdout, a.Stderr)
	defer detach()
	ready()
	if a.Logs {
		if err := c.sendLog(ctx, a); err != nil {
			return err
		}
	}
	if !a.Stream {
		return nil
	}
	e.publish("attach", c, nil)
	if a.Stdin != nil && info.Spec.OpenStdin {
		stdin := c.streams.Stdin()
		go func() {
			fault.Do(e.Log, "input of an attached client", func() { _, _ = io.Copy(stdin, a.Stdin) }) // ends when the client or the container does
			if info.Spec.StdinOnce {
				_ = stdin.Close() // a pipe closes without errors
			}
		}()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	case <-e.closing:
	}
	return nil
}

// sendLog sends a client what the container has printed so far.
func (c *container) sendLog(ctx context.Context, a AttachSpec) error {
	query := logs.Query{Tail: -1, Stdout: a.Stdout != nil, Stderr: a.Stderr != nil}
	return c.log.Read(ctx, query, func(l logs.Line) error {
		to := a.Stdout
		if l.Stream == logs.Stderr {
			to = a.Stderr
		}
		_, err := io.WriteString(to, l.Text)
		return err
	})
}

// LogsReadable is a not implemented error, in Docker's words, if nobody can read a container's log.
func (e *Engine) LogsReadable(ref string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	return c.log.Readable()
}

// Logs calls each for the lines that q asks for; see logs.Log.Read.
func (e *Engine) Logs(ctx context.Context, ref string, q logs.Query, each func(logs.Line) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	return c.log.Read(ctx, q, each)
}
