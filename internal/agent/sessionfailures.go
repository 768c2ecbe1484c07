package agent

import (
	"errors"
	"log/slog"
	"time"
)

// sessionFailures logs that an agent finds no manager to have a session with. Single failures are part of every change of leaders and are logged at debug
// level only.
type sessionFailures struct {
	log    *slog.Logger
	since  time.Time // of the first failure since the last session
	count  int
	warned time.Time
}

const (
	quietFor  = 2 * time.Second  // without a session, before there is a warning
	warnEvery = 10 * time.Second // at most
)

// note logs that an attempt has failed, or that a session has ended.
func (f *sessionFailures) note(manager string, err error, now time.Time) {
	if ended, ok := errors.AsType[*endedError](err); ok {
		f.since, f.count, f.warned = now, 0, time.Time{}
		f.log.Info("session with a manager has ended; another is looked for, and tasks go on", "manager", manager, "why", ended)
		return
	}
	if f.count++; f.count == 1 && f.since.IsZero() {
		f.since = now
	}
	f.log.Debug("no session with a manager", "manager", manager, "err", err)
	if now.Sub(f.since) < quietFor || now.Sub(f.warned) < warnEvery {
		return
	}
	f.warned = now
	f.log.Warn("the node has no session with a manager; it is tried again, its tasks go on, and it counts as down until then",
		"for", now.Sub(f.since).Round(time.Millisecond), "attempts", f.count, "manager", manager, "err", err)
}
