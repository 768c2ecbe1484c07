package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// trimMemory gives memory back to the system once the daemon has become quiet after work. Go by itself keeps twice of what is
// in use, which is good while there is work and a waste on the many nodes that have none.
func trimMemory(ctx context.Context) error {
	const (
		look  = 5 * time.Second
		quiet = 2 << 20 // bytes allocated between two looks, at most
		worth = 4 << 20 // bytes allocated since the last time, at least
	)
	ticker := time.NewTicker(look)
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
		if now-last <= quiet && now-trimmed >= worth {
			debug.FreeOSMemory()
			trimmed = now
		}
		last = now
	}
}
