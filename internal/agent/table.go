package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// setTable queues a delta for applyTables.
func (a *Agent) setTable(delta *shoal.TableDelta) {
	defer wake(a.wakeTable)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setNetworksLocked(delta)
	a.table = merged(a.table, delta)
	a.tablesReceived++
}

// awaitTables waits, as long as a task that is to stop is kept, until the tables that have been received so far were applied.
func (a *Agent) awaitTables(ctx context.Context) {
	limit := time.After(drainTimeout)
	a.mu.Lock()
	received := a.tablesReceived
	a.mu.Unlock()
	for {
		a.mu.Lock()
		applied, changed := a.tablesApplied, a.tablesChanged
		a.mu.Unlock()
		if applied >= received {
			return
		}
		select {
		case <-changed:
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
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

// applyTables applies queued deltas until ctx ends, one at a time. Deltas that arrive meanwhile are merged into the next one. One that has left networks
// lagging is tried again with exponential backoff, merged with those that arrived since.
func (a *Agent) applyTables(ctx context.Context) {
	const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second
	pause := firstPause
	failure := "" // what was last logged
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wakeTable:
		}
		a.mu.Lock()
		delta, received := a.table, a.tablesReceived
		a.table = nil
		a.mu.Unlock()
		if delta == nil {
			continue
		}
		lagging, err := a.applyTable(ctx, delta)
		if err != nil && ctx.Err() != nil {
			return
		}
		failure = a.logTable(failure, delta.Version, lagging, err)
		a.mu.Lock()
		a.applied = &rpc.AppliedPartly{Version: delta.Version, Lagging: lagging}
		a.tablesApplied = received
		close(a.tablesChanged)
		a.tablesChanged = make(chan struct{})
		if len(lagging) > 0 {
			a.table = merged(delta, a.table)
		}
		a.mu.Unlock()
		wake(a.wakeSend)
		if len(lagging) == 0 {
			pause = firstPause
			continue
		}
		time.AfterFunc(pause, func() { wake(a.wakeTable) })
		pause = min(2*pause, longestPause)
	}
}

// applyTable applies a delta. After a fault of ours nothing is known of what has become of it: all networks may lag.
func (a *Agent) applyTable(ctx context.Context, delta *shoal.TableDelta) (lagging []shoal.NetworkID, err error) {
	a.mu.Lock()
	lagging = slices.Sorted(maps.Keys(a.networks))
	a.mu.Unlock()
	err = fault.Contain(a.cfg.Log, "table of a manager", func() error {
		refused, err := a.cfg.ApplyTable(ctx, delta)
		lagging = refused
		return err
	})
	return lagging, err
}

// logTable tells what has become of a table, unless that was logged before. It returns what it has told of.
func (a *Agent) logTable(before string, version uint64, lagging []shoal.NetworkID, err error) string {
	switch {
	case err == nil && before != "":
		a.cfg.Log.Info("the managers' table is applied again as a whole", "version", version)
	case err == nil || err.Error() == before:
	case len(lagging) > 0:
		a.cfg.Log.Error("networks cannot be brought up to date with the managers' table; it is tried again, and until then this node opens connections on them by the last table", "version", version, "networks", lagging, "err", err)
	default:
		a.cfg.Log.Error("parts of the network cannot be brought up to date with the managers' table; the rest is, and they are tried again", "version", version, "err", err)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}
