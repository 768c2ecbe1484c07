package etcd

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestTimingFollowsTheWayAndTheDisk(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name                        string
		trip, flush                 time.Duration
		wantHeartbeat, wantElection time.Duration
	}{
		{"one rack", ms / 2, 2 * ms, 100 * ms, 700 * ms},
		{"a slow disk", ms, 150 * ms, 100 * ms, 1510 * ms},
		{"another continent", 220 * ms, 5 * ms, 220 * ms, 2250 * ms},
		{"a disk that hangs", ms, 20 * time.Second, 100 * ms, 5 * time.Second},
		{"both at their worst", 2 * time.Second, 20 * time.Second, 5 * time.Second / 7, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if heartbeat, election := timing(c.trip, c.flush); heartbeat != c.wantHeartbeat || election != c.wantElection {
				t.Errorf("heartbeat %v, election %v; want %v, %v", heartbeat, election, c.wantHeartbeat, c.wantElection)
			}
		})
	}
}

// A peer whose daemon is away answers all the same; one that says nothing holds up the start for no longer than the limit, and does not count.
func TestRoundTripsAreMeasuredWithoutWaiting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listening := longestRoundTrip(t.Context(), []string{addr})
	_ = listener.Close()
	away := longestRoundTrip(t.Context(), []string{addr})
	for what, trip := range map[string]time.Duration{"one that listens": listening, "one whose daemon is away": away} {
		if trip <= 0 || trip > measureLimit {
			t.Errorf("%s: %v", what, trip)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as if the limit were over
	if trip := longestRoundTrip(ctx, []string{addr}); trip != 0 {
		t.Errorf("one that says nothing: %v", trip)
	}
	if got := longestRoundTrip(t.Context(), nil); got != 0 {
		t.Errorf("nobody: %v", got)
	}
}

func TestFlushesAreMeasured(t *testing.T) {
	if took := flushTime(t.TempDir()); took <= 0 || took > time.Minute {
		t.Errorf("a flush takes %v", took)
	}
	if took := flushTime("/proc"); took != 0 {
		t.Errorf("where nothing can be written: %v", took)
	}
}
