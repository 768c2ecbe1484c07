package agent

import (
	"errors"
	"testing"
	"time"
)

func TestTheSearchForALeader(t *testing.T) {
	managers := []string{"m1", "m2", "m3"}
	refused := errors.New("connection refused")
	type step struct {
		at   time.Duration
		want string // where it goes
		err  error  // what it meets there
		soon bool   // it goes on without a pause
	}
	for name, steps := range map[string][]step{
		"a follower shows the way": {
			{0, "m1", &redirectError{"m3"}, true}, {0, "m3", nil, false},
		},
		"one after the other": {
			{0, "m1", refused, false}, {0, "m2", refused, false}, {0, "m3", refused, false}, {0, "m1", nil, false},
		},
		"the leader dies": {
			{0, "m1", &endedError{refused}, false}, {0, "m2", &redirectError{"m1"}, false}, // m2 has not noticed yet
			{time.Second, "m3", &redirectError{""}, false}, {time.Second, "m1", refused, false},
			{time.Second, "m2", &redirectError{"m3"}, false}, {time.Second, "m3", nil, false},
		},
		"the same leader is back later": {
			{0, "m1", &endedError{refused}, false}, {3 * time.Second, "m2", &redirectError{"m1"}, false}, {3 * time.Second, "m1", nil, false},
		},
		"news of itself go to the same manager": {
			{0, "m1", &redirectError{"m2"}, true}, {0, "m2", &endedError{errReopened}, false}, {0, "m2", nil, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s search
			begin := time.Now()
			for i, step := range steps {
				if got := s.next(managers); got != step.want {
					t.Fatalf("step %d goes to %s, want %s", i, got, step.want)
				}
				if step.err == nil {
					return
				}
				pause := s.failed(step.want, step.err, begin.Add(step.at))
				if pause > longestPause || (pause == 0) != step.soon {
					t.Errorf("step %d waits %v", i, pause)
				}
			}
		})
	}
}
