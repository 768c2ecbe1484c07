package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const tableFile = "table.json"

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
		if err := a.keepTable(table); err != nil {
			a.cfg.Log.Warn("keep endpoint table", "err", err)
		}
	}
}

func (a *Agent) keepTable(table shoal.Table) error {
	text, err := json.Marshal(table)
	if err != nil {
		return fmt.Errorf("encode table: %w", err)
	}
	path := filepath.Join(a.cfg.StateDir, tableFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// restoreTable applies the table of the last run, so that names and balancing work before a manager has been found.
func (a *Agent) restoreTable(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(a.cfg.StateDir, tableFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var table shoal.Table
	if err := json.Unmarshal(text, &table); err != nil {
		return fmt.Errorf("read kept table: %w", err)
	}
	a.mu.Lock()
	a.table = table
	a.mu.Unlock()
	return a.cfg.ApplyTable(ctx, table)
}
