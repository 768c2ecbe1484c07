package agent

import (
	"errors"
	"time"
)

// search decides which manager an agent tries next when it looks for the leader: the one it was redirected to, or else one after
// the other.
type search struct {
	nextIndex        int
	leader           string // where the last manager redirected to; empty if it did not
	pause            time.Duration
	silent           int    // attempts in a row that nobody has answered
	unreachable      string // the manager that could not be reached last
	unreachableSince time.Time
}

const (
	firstPause, longestPause = 25 * time.Millisecond, 400 * time.Millisecond
	// unreachableFor is how long no redirection leads back to a manager that could not be reached.
	unreachableFor = 2 * time.Second
)

// Managers that are switched off answer nothing at all. Each is waited for so long that all can be asked within a heartbeat timeout, and for twice as long in
// each later round in which none has answered: it may be this machine or the network that is slow.
const firstConnectTimeout, longestConnectTimeout = 800 * time.Millisecond, 10 * time.Second

// connectTimeout is how long to wait for the connection to the next of so many managers.
func (s *search) connectTimeout(managers int) time.Duration {
	timeout := firstConnectTimeout
	for range s.silent / max(managers, 1) {
		timeout = min(2*timeout, longestConnectTimeout)
	}
	return timeout
}

// redirectError says that a manager refused a session because it does not lead.
type redirectError struct{ leader string }

func (e *redirectError) Error() string {
	if e.leader == "" {
		return "the manager does not lead and knows of no leader"
	}
	return "the manager says that " + e.leader + " leads"
}

// endedError wraps the error with which an open session ended.
type endedError struct{ err error }

func (e *endedError) Error() string { return e.err.Error() }
func (e *endedError) Unwrap() error { return e.err }

// next is the manager to try.
func (s *search) next(managers []string) string {
	if leader := s.leader; leader != "" {
		s.leader = ""
		return leader
	}
	manager := managers[s.nextIndex%len(managers)]
	s.nextIndex++
	return manager
}

// failed records the outcome of an attempt and returns how long to wait before the next one.
func (s *search) failed(manager string, err error, now time.Time) time.Duration {
	if _, ended := errors.AsType[*endedError](err); !ended && errors.Is(err, errSilent) {
		s.silent++
	} else {
		s.silent = 0
	}
	if redirect, ok := errors.AsType[*redirectError](err); ok {
		if redirect.leader != "" && (redirect.leader != s.unreachable || now.Sub(s.unreachableSince) > unreachableFor) && redirect.leader != manager {
			s.leader = redirect.leader
			if s.pause == 0 {
				s.pause = firstPause
				return 0
			}
		}
	} else {
		s.lost(manager, err, now)
	}
	if s.pause == 0 {
		s.pause = firstPause
		return firstPause
	}
	s.pause = min(2*s.pause, longestPause)
	return s.pause
}

// lost records that a manager did not answer, or that the session with it has ended.
func (s *search) lost(manager string, err error, now time.Time) {
	if errors.Is(err, errReopened) || errors.Is(err, errNewHeartbeat) {
		s.leader, s.pause = manager, 0
		return
	}
	s.unreachable, s.unreachableSince = manager, now
	if _, ok := errors.AsType[*endedError](err); ok {
		s.pause, s.nextIndex = 0, 1 // the first of the list is the leader, whose session has just ended
	}
}
