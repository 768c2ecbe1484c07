package agent

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
)

// setTable takes a delta in; applyTables gives the newest result to the network.
func (a *Agent) setTable(delta *rpc.Table) {
	a.mu.Lock()
	a.table = delta.Apply(a.table)
	a.mu.Unlock()
	wake(a.wakeTable)
}

// applyTables gives each newest table to the network, one at a time: while one is being applied, any number of further deltas
// become one table. A table that cannot be applied is tried again.
func (a *Agent) applyTables(ctx context.Context) {
	const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wakeTable:
		}
		table := a.Table()
		if err := a.cfg.ApplyTable(ctx, table); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.cfg.Log.Error("apply endpoint table", "version", table.Version, "err", err)
			time.AfterFunc(pause, func() { wake(a.wakeTable) })
			pause = min(2*pause, longestPause)
			continue
		}
		pause = firstPause
		a.mu.Lock()
		a.applied = table.Version
		a.mu.Unlock()
		wake(a.wakeSend)
	}
}
