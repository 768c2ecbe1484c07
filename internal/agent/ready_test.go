package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// sick is a runtime whose probes fail as told.
type sick struct {
	Runtime
	failure chan error // the next check's outcome
}

func (s *sick) Probe(ctx context.Context, _ string, _ shoal.ReadyCheck) error {
	select {
	case err := <-s.failure:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestReadinessFollowsTheChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime := &sick{failure: make(chan error)}
		a := New(Config{Log: slog.New(slog.DiscardHandler), Runtime: runtime})
		r := &runner{agent: a, task: &shoal.Task{DesiredState: shoal.TaskRunning}, status: shoal.TaskStatus{State: shoal.TaskStarting}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.watchReadiness(ctx, "c", shoal.ReadyCheck{Interval: time.Second, Timeout: time.Minute, Failures: 2})
		refused := errors.New("connection refused")
		var since time.Time
		for i, step := range []struct {
			outcome error
			state   shoal.TaskState
			unready bool
			err     string
		}{
			{refused, shoal.TaskStarting, false, ""},
			{refused, shoal.TaskStarting, false, "not ready: connection refused"},
			{nil, shoal.TaskRunning, false, ""},
			{refused, shoal.TaskRunning, false, ""},
			{nil, shoal.TaskRunning, false, ""},
			{refused, shoal.TaskRunning, false, ""},
			{refused, shoal.TaskRunning, true, "not ready: connection refused"},
			{refused, shoal.TaskRunning, true, "not ready: connection refused"},
			{nil, shoal.TaskRunning, false, ""},
		} {
			runtime.failure <- step.outcome
			synctest.Wait()
			got := r.lastStatus()
			if got.State != step.state || got.Unready != step.unready || got.Err != step.err {
				t.Errorf("step %d: %v, unready %v, %q", i, got.State, got.Unready, got.Err)
			}
			if got.State == shoal.TaskRunning && since.IsZero() {
				since = got.Timestamp
			}
		}
		if got := r.lastStatus(); got.Timestamp != since {
			t.Error("the task seems to have come to run anew")
		}
		r.setTask(&shoal.Task{DesiredState: shoal.TaskShutdown})
		runtime.failure <- refused
		runtime.failure <- refused
		synctest.Wait()
		if r.lastStatus().Unready {
			t.Error("a task that is to stop was reported unready")
		}
	})
}

func TestProbeHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/good?deep=1":
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	addr := netip.MustParseAddrPort(server.Listener.Addr().String())
	dial := func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", a.String())
	}
	for path, want := range map[string]string{"/good?deep=1": "", "/moved": "", "/bad": "GET /bad: 503 Service Unavailable"} {
		err := probeHTTP(t.Context(), shoal.ReadyCheck{HTTP: addr, Path: path}, dial)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
