package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// firstReadyInterval is the longest pause between two checks of a task that has not been ready yet.
const firstReadyInterval = 200 * time.Millisecond

// readyCheck is what the task's service asks for; nil if it asks for none. The API has refused bad labels.
func (r *runner) readyCheck() *shoal.ReadyCheck {
	check, err := shoal.ReadyCheckOf(r.current().Labels)
	if err != nil {
		r.agent.cfg.Log.Warn("label of the readiness check cannot be read; the task counts as ready as soon as it runs", "task", r.current().ID, "err", err)
	}
	return check
}

// watchReadiness checks the container periodically until ctx ends. The first success makes the task Running. After check.Failures
// failures in a row the task becomes unready, so that balancers drop it, until the next success.
func (r *runner) watchReadiness(ctx context.Context, container string, check shoal.ReadyCheck) {
	failures := 0
	for {
		err := r.probe(ctx, container, check)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
		} else {
			failures = 0
		}
		pause := check.Interval
		if starting := r.lastStatus().State < shoal.TaskRunning; starting {
			pause = min(pause, firstReadyInterval)
		}
		if err == nil || failures >= check.Failures {
			r.reportReadiness(err)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// sleep waits for the pause; it returns false if ctx ends first.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (r *runner) probe(ctx context.Context, container string, check shoal.ReadyCheck) error {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	return r.agent.cfg.Runtime.Probe(ctx, container, check)
}

// reportReadiness reports the result of a check if it changes the task's status. failure is nil if the task is ready.
func (r *runner) reportReadiness(failure error) {
	if r.recordReadiness(failure) {
		r.agent.report(r)
	}
}

// recordReadiness records the result of a check and tells whether it changed the status. For a task that is to stop or has ended
// nothing changes.
func (r *runner) recordReadiness(failure error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	unready, reason := failure != nil, ""
	if unready {
		reason = "not ready: " + failure.Error()
	}
	s := &r.status
	switch {
	case !r.task.Wanted():
		return false
	case s.State == shoal.TaskStarting && !unready:
		r.setStatusLocked(shoal.TaskRunning, "started", nil)
	case s.State == shoal.TaskStarting && s.Err != reason:
		s.Err = reason
	case s.State == shoal.TaskRunning && s.Unready != unready:
		s.Unready, s.Err = unready, reason
	default:
		return false
	}
	return true
}

// Probe implements Runtime.
func (e *Engine) Probe(ctx context.Context, id string, check shoal.ReadyCheck) error {
	if check.Command != "" {
		return e.Containers.Check(ctx, id, check.Command)
	}
	info, err := e.Containers.Inspect(id)
	if err != nil {
		return err
	}
	dial := func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		return network.DialFrom(ctx, info.State.PID, addr)
	}
	if check.TCP.IsValid() {
		conn, err := dial(ctx, check.TCP)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return probeHTTP(ctx, check, dial)
}

// probeHTTP succeeds on any status below 400. Redirects are not followed, because they may lead away from the task.
func probeHTTP(ctx context.Context, check shoal.ReadyCheck, dial func(context.Context, netip.AddrPort) (net.Conn, error)) error {
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, check.HTTP) },
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+check.HTTP.String()+check.Path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "shoal")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	const enough = 4096
	_, _ = io.CopyN(io.Discard, resp.Body, enough) // reads short answers to the end, so that the server sees no reset connection
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s: %s", check.Path, resp.Status)
	}
	return nil
}
