package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// `swarm init` once failed after 20 s without a session, and the log had not one line about it.
func TestANodeWithoutASessionSaysSoButNotAllTheTime(t *testing.T) {
	var out bytes.Buffer
	f := sessionFailures{log: slog.New(slog.NewTextHandler(&out, nil))}
	begin := time.Now()
	refused := errors.New("connection refused")
	for at := time.Duration(0); at < 25*time.Second; at += 100 * time.Millisecond {
		f.note("m1:2377", refused, begin.Add(at))
	}
	if got := strings.Count(out.String(), "level=WARN"); got != 3 {
		t.Errorf("%d warnings in 25 s:\n%s", got, out.String())
	}
	if !strings.Contains(out.String(), "manager=m1:2377") || !strings.Contains(out.String(), "connection refused") {
		t.Errorf("logged:\n%s", out.String())
	}
	out.Reset()
	f.note("m1:2377", &endedError{refused}, begin.Add(time.Hour))
	f.note("m2:2377", refused, begin.Add(time.Hour+time.Second)) // the others elect a leader
	if got := out.String(); strings.Contains(got, "level=WARN") || !strings.Contains(got, "session with a manager has ended") {
		t.Errorf("logged:\n%s", got)
	}
}
