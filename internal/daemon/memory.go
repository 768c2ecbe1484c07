package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimMemory returns unused memory to the system whenever the daemon has become idle after work. Go by itself keeps about twice the memory in use:
// good while there is work, but a waste on the many nodes that have none.
func trimMemory(ctx context.Context) error {
	const (
		interval      = 5 * time.Second
		idleBytes     = 2 << 20 // the daemon is idle if it has allocated no more than this in an interval
		worthTrimming = 4 << 20 // there is something to return if it has allocated this much since the last time
	)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last, trimmed uint64
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(sample)
		now := sample[0].Value.Uint64()
		if now-last <= idleBytes && now-trimmed >= worthTrimming {
			debug.FreeOSMemory()
			trimmed = now
		}
		last = now
	}
}
