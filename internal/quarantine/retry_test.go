package quarantine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/events"
)

func TestWhatDoesNotWorkIsTriedAgainUntilItDoes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		q := Open(dir, slog.New(slog.NewTextHandler(&log, nil)), &events.Bus{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		began := time.Now()
		var attempts []time.Duration
		q.Retry("volume data", errors.New("input/output error"), func(context.Context) error {
			attempts = append(attempts, time.Since(began).Round(time.Second))
			if len(attempts) < 4 {
				return errors.New("input/output error")
			}
			return nil
		})
		q.Note("probes", errors.New("address already in use"))
		if got := q.Problems(); len(got) != 2 || !strings.Contains(got[1], "volume data") || !strings.Contains(got[1], "input/output error") {
			t.Errorf("%q", got)
		}
		time.Sleep(time.Minute) // of virtual time
		synctest.Wait()
		if want := []time.Duration{1, 3, 7, 15}; len(attempts) != len(want) {
			t.Errorf("tried %v", attempts)
		} else {
			for i := range want {
				if attempts[i] != want[i]*time.Second {
					t.Errorf("tried %v", attempts)
				}
			}
		}
		if got := q.Problems(); len(got) != 1 || !strings.Contains(got[0], "probes") {
			t.Errorf("%q", got)
		}
		q.Note("probes", nil)
		if got := q.Problems(); got != nil {
			t.Errorf("%q", got)
		}
		if n := strings.Count(log.String(), "volume data"); n != 2 { // that it does not work, that it does: not every attempt
			t.Errorf("logged %d times:\n%s", n, log.String())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAFaultIsAnErrorOfItsPart(t *testing.T) {
	err := Guard(func() error { panic("no gateway") })
	if err == nil || !strings.Contains(err.Error(), "no gateway") || !strings.Contains(err.Error(), "retry_test.go") {
		t.Errorf("%v", err)
	}
	if err := Guard(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
