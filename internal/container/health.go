package container

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	defaultProbeInterval = 30 * time.Second
	defaultProbeTimeout  = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultProbeRetries  = 3
	maxProbeOutput       = 4096
	maxProbeResults      = 5
)

func hasHealthcheck(h *shoal.Healthcheck) bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}

// watchHealth probes a running container until it ends.
func (c *container) watchHealth(e *Engine) {
	info, _, ended := c.currentTask()
	if !hasHealthcheck(info.Healthcheck) {
		return
	}
	check := *info.Healthcheck
	for _, d := range []struct {
		to *time.Duration
		by time.Duration
	}{{&check.Interval, defaultProbeInterval}, {&check.Timeout, defaultProbeTimeout}, {&check.StartInterval, defaultStartInterval}} {
		if *d.to == 0 {
			*d.to = d.by
		}
	}
	if check.Retries == 0 {
		check.Retries = defaultProbeRetries
	}
	e.background.Go(func() {
		ctx, cancel := e.untilClosed()
		defer cancel()
		for {
			now, _ := c.snapshot()
			pause := check.Interval
			if now.State.Health != nil && now.State.Health.Status == HealthStarting && time.Since(now.State.StartedAt) < check.StartPeriod {
				pause = min(pause, check.StartInterval)
			}
			timer := time.NewTimer(pause)
			select {
			case <-ended:
				timer.Stop()
				return
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if now, _ := c.snapshot(); now.State.Status == Running {
				e.recordProbe(c, check, e.probe(ctx, c, check, ended))
			}
		}
	})
}

// probe runs the check once.
func (e *Engine) probe(ctx context.Context, c *container, check shoal.Healthcheck, ended <-chan struct{}) Probe {
	cmd := check.Test[1:]
	if check.Test[0] == "CMD-SHELL" {
		cmd = append([]string{"/bin/sh", "-c"}, cmd...)
	} else if check.Test[0] != "CMD" {
		cmd = check.Test
	}
	info, _ := c.snapshot()
	p := Probe{Start: time.Now(), ExitCode: -1}
	x, err := e.ExecCreate(info.ID, ExecSpec{Cmd: cmd})
	if err != nil {
		p.End, p.Output = time.Now(), err.Error()
		return p
	}
	defer e.unregisterExec(x.ID)
	out := &limitedBuffer{}
	finished := make(chan error, 1)
	go func() { finished <- e.ExecStart(ctx, x.ID, nil, out, out, nil) }()
	timer := time.NewTimer(check.Timeout)
	defer timer.Stop()
	select {
	case err := <-finished:
		if code := x.State().ExitCode; code != nil {
			p.ExitCode = *code
		}
		if err != nil {
			_, _ = out.Write([]byte(err.Error())) // memory takes everything
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

// recordProbe records the result of a health check and publishes an event if the container's health has changed.
func (e *Engine) recordProbe(c *container, check shoal.Healthcheck, p Probe) {
	var before, after string
	e.update(c, func(i *Info) {
		if !running(i.State.Status) || i.State.Health == nil {
			return
		}
		h := *i.State.Health
		before = h.Status
		h.Log = append(h.Log[max(0, len(h.Log)-maxProbeResults+1):len(h.Log):len(h.Log)], p)
		switch {
		case p.ExitCode == 0:
			h.Status, h.FailingStreak = Healthy, 0
		case h.Status == HealthStarting && p.Start.Sub(i.State.StartedAt) < check.StartPeriod:
		default:
			if h.FailingStreak++; h.FailingStreak >= check.Retries {
				h.Status = Unhealthy
			}
		}
		after = h.Status
		i.State.Health = &h
	})
	if before != after {
		e.publish("health_status: "+after, c, nil)
	}
}

func (e *Engine) unregisterExec(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.execs, id)
}

// kill ends a command that takes too long.
func (x *Exec) kill(ctx context.Context) {
	x.mu.Lock()
	process := x.process
	x.mu.Unlock()
	if process != nil {
		_ = process.Kill(ctx, 9)
	}
}

// limitedBuffer keeps the first bytes that are written to it.
type limitedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p[:min(len(p), maxProbeOutput-l.buf.Len())])
	return len(p), nil
}

func (l *limitedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
