package container

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// probe runs a container's health check once, until it ends by itself, its timeout is over, the container has ended or ctx is done.
func (e *Engine) probe(ctx context.Context, c *container, check shoal.Healthcheck, ended <-chan struct{}) Probe {
	info, _ := c.snapshot()
	p := Probe{Start: time.Now(), ExitCode: -1}
	x, err := e.ExecCreate(info.ID, ExecSpec{Cmd: probeCommand(check.Test, info.Shell)})
	if err != nil {
		p.End, p.Output = time.Now(), err.Error()
		return p
	}
	defer e.unregisterExec(x.ID)
	out := &limitedBuffer{}
	finished := make(chan error, 1)
	go func() {
		finished <- fault.Contain(e.Log, "health check", func() error { return e.ExecStart(ctx, x.ID, nil, out, out, nil) })
	}()
	timer := time.NewTimer(check.Timeout)
	defer timer.Stop()
	select {
	case err := <-finished:
		if code := x.State().ExitCode; code != nil {
			p.ExitCode = *code
		}
		if err != nil {
			_, _ = out.Write([]byte(err.Error())) // never fails
		}
		p.Output = out.String()
	case <-timer.C:
		x.kill(context.WithoutCancel(ctx))
		p.Output = fmt.Sprintf("Health check exceeded timeout (%v)", check.Timeout)
	case <-ended:
	case <-ctx.Done():
	}
	p.End = time.Now()
	return p
}

// probeCommand is the command of a test in the form of Docker's HEALTHCHECK: CMD and a command, CMD-SHELL and a line for a shell, or only
// a command. The shell is the container's, nil for the usual one.
func probeCommand(test, shell []string) []string {
	switch test[0] {
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, test[1:])
	case "CMD":
		return test[1:]
	}
	return test
}

// Check runs a shell command in a running container, for at most 30 seconds or until the deadline of ctx. It returns an error
// unless the command exits with 0.
func (e *Engine) Check(ctx context.Context, ref, command string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	_, _, ended := c.currentTask()
	check := shoal.Healthcheck{Test: []string{"CMD-SHELL", command}, Timeout: defaultProbeTimeout}
	if deadline, ok := ctx.Deadline(); ok {
		check.Timeout = time.Until(deadline)
	}
	p := e.probe(runtime.WithNamespace(context.WithoutCancel(ctx)), c, check, ended)
	if p.ExitCode != 0 {
		return fmt.Errorf("exit code %d: %s", p.ExitCode, strings.TrimSpace(p.Output))
	}
	return nil
}

// limitedBuffer keeps the first maxProbeOutput bytes that are written to it and drops the others.
type limitedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p[:min(len(p), maxProbeOutput-l.buf.Len())])
	return len(p), nil
}

// String returns what has been kept.
func (l *limitedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
