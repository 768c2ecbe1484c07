package store

import (
	"errors"
	"testing"
	"time"
)

func TestASeriesOfFailuresIsToldOfOnce(t *testing.T) {
	full, gone := errors.New("the disk is nearly full"), errors.New("no leader")
	var f Failures
	at := time.Unix(0, 0)
	for _, step := range []struct {
		after time.Duration
		err   error
		want  bool
	}{
		{0, full, true}, {time.Second, full, false}, {time.Minute, full, false}, {time.Second, gone, true}, {time.Second, gone, false},
		{time.Second, full, true}, {10 * time.Minute, full, true}, {time.Second, full, false}, {0, nil, true}, {0, nil, false}, {0, full, true},
	} {
		at = at.Add(step.after)
		got := false
		if step.err == nil {
			got = f.Succeeded()
		} else {
			got = f.Failed(step.err, at)
		}
		if got != step.want {
			t.Errorf("%v at %v: %v", step.err, at.Unix(), got)
		}
	}
}
