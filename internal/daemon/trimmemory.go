package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimMemory returns unused memory to the system when the daemon is idle after work. Go's runtime keeps about as much free memory as
// is in use, which is good under load and wasteful on the many nodes that are idle.
func trimMemory(ctx context.Context) error {
	const (
		interval = 5 * time.Second
		idle     = 2 << 20 // allocating at most so many bytes in an interval is being idle
		worth    = 4 << 20 // trimming is worth it after so many bytes were allocated since the last time
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
		if now-last <= idle && now-trimmed >= worth {
			debug.FreeOSMemory()
			trimmed = now
		}
		last = now
	}
}
