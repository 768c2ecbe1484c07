package agent

import (
	"errors"
	"time"
)

// search is how an agent looks for the leader: it goes where a manager sends it, and else from one manager to the next.
type search struct {
	turn   int
	leader string // where the last manager has sent us
	pause  time.Duration
	dead   string // the manager that could not be reached last
	died   time.Time
}

const (
	firstPause, longestPause = 25 * time.Millisecond, 400 * time.Millisecond
	// deadFor is how long no redirection leads back to a manager that could not be reached.
	deadFor = 2 * time.Second
)

// redirected is the end of a session that a manager which does not lead has refused.
type redirected struct{ leader string }

func (r *redirected) Error() string {
	if r.leader == "" {
		return "the manager does not lead and knows of no leader"
	}
	return "the manager says that " + r.leader + " leads"
}

// brokenError wraps the end of a session that had begun.
type brokenError struct{ err error }

func (b *brokenError) Error() string { return b.err.Error() }
func (b *brokenError) Unwrap() error { return b.err }

// next is the manager to try.
func (s *search) next(managers []string) string {
	if leader := s.leader; leader != "" {
		s.leader = ""
		return leader
	}
	manager := managers[s.turn%len(managers)]
	s.turn++
	return manager
}

// failed learns from an attempt and tells how long to wait before the next.
func (s *search) failed(manager string, err error, now time.Time) time.Duration {
	if sent, ok := errors.AsType[*redirected](err); ok {
		if sent.leader != "" && (sent.leader != s.dead || now.Sub(s.died) > deadFor) && sent.leader != manager {
			s.leader = sent.leader
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

// lost learns from a manager that did not answer, or has answered until now.
func (s *search) lost(manager string, err error, now time.Time) {
	if errors.Is(err, errReopened) || errors.Is(err, errNewHeartbeat) {
		s.leader, s.pause = manager, 0
		return
	}
	s.dead, s.died = manager, now
	if _, ok := errors.AsType[*brokenError](err); ok {
		s.pause, s.turn = 0, 1 // the list begins with the manager that has just been lost
	}
}
