package probe

import (
	"testing"
	"time"
)

func TestAPeerIsSuspectedAfterASilenceThatIsUnusualForIt(t *testing.T) {
	now := time.Unix(100, 0)
	for name, c := range map[string]struct {
		gap     time.Duration // between its answers
		silence time.Duration
		want    bool
	}{
		"quick, short silence":             {100 * time.Millisecond, 500 * time.Millisecond, false},
		"quick, long silence":              {100 * time.Millisecond, 1500 * time.Millisecond, true},
		"slow, a silence as usual":         {500 * time.Millisecond, 1500 * time.Millisecond, false},
		"slow, a silence that is too long": {500 * time.Millisecond, 5 * time.Second, true},
	} {
		h := history{}
		for i := range 2 * maxIntervals {
			h.answered(now.Add(-c.silence - time.Duration(2*maxIntervals-1-i)*c.gap))
		}
		if got := h.shouldSuspect(now); got != c.want || len(h.intervals) != maxIntervals {
			t.Errorf("%s: suspect %v with %d intervals", name, got, len(h.intervals))
		}
	}
}
