package agent

import (
	"context"
	"maps"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// setTable takes a delta in; applyTables gives it to the network.
func (a *Agent) setTable(delta *shoal.TableDelta) {
	a.mu.Lock()
	a.setNetworksLocked(delta)
	a.table = joined(a.table, delta)
	a.mu.Unlock()
	wake(a.wakeTable)
}

// setNetworksLocked keeps the table's networks, for those who want to know about them.
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

// joined is two deltas in one; either may be nil.
func joined(first, next *shoal.TableDelta) *shoal.TableDelta {
	switch {
	case first == nil:
		return next
	case next == nil:
		return first
	}
	return first.Then(next)
}

// applyTables gives what has changed of the table to the network, one delta at a time: while one is being applied, any number of
// further ones become the next. One that cannot be applied is tried again, together with what has come since.
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
		if err := a.cfg.ApplyTable(ctx, delta); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.cfg.Log.Error("apply endpoint table", "version", delta.Version, "err", err)
			a.mu.Lock()
			a.table = joined(delta, a.table)
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
