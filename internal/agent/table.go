package agent

import (
	"context"
	"maps"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// setTable queues a delta for applyTables.
func (a *Agent) setTable(delta *shoal.TableDelta) {
	defer wake(a.wakeTable)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setNetworksLocked(delta)
	a.table = merged(a.table, delta)
}

// setNetworksLocked keeps a copy of the table's networks, which tasks refer to: see Dependencies.
func (a *Agent) setNetworksLocked(delta *shoal.TableDelta) {
	if !delta.Full && len(delta.Networks)+len(delta.RemovedNetworks) == 0 {
		return
	}
	now := map[shoal.NetworkID]shoal.Network{}
	if !delta.Full {
		maps.Copy(now, a.networks)
	}
	for _, id := range delta.RemovedNetworks {
		delete(now, id)
	}
	maps.Copy(now, delta.Networks)
	a.networks = now
}

// merged is one delta with the effect of two; either may be nil.
func merged(first, next *shoal.TableDelta) *shoal.TableDelta {
	switch {
	case first == nil:
		return next
	case next == nil:
		return first
	}
	return first.Then(next)
}

// applyTables applies queued deltas until ctx ends, one at a time. Deltas that arrive meanwhile are merged into the next one. A
// delta that could not be applied is tried again with exponential backoff, merged with those that arrived since.
func (a *Agent) applyTables(ctx context.Context) {
	const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wakeTable:
		}
		a.mu.Lock()
		delta := a.table
		a.table = nil
		a.mu.Unlock()
		if delta == nil {
			continue
		}
		err := fault.Contain(a.cfg.Log, "table of a manager", func() error { return a.cfg.ApplyTable(ctx, delta) })
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			a.cfg.Log.Error("networks cannot be brought up to date with the managers' table; it is tried again, and connections follow the last table until then", "version", delta.Version, "err", err)
			a.mu.Lock()
			a.table = merged(delta, a.table)
			a.mu.Unlock()
			time.AfterFunc(pause, func() { wake(a.wakeTable) })
			pause = min(2*pause, longestPause)
			continue
		}
		pause = firstPause
		a.mu.Lock()
		a.applied = delta.Version
		a.mu.Unlock()
		wake(a.wakeSend)
	}
}
