package store

import (
	"context"
	"fmt"
)

// Bounds of one transaction of Import.
const (
	importOps   = 1000
	importBytes = 4 << 20
)

// Import writes records to an empty backend. It takes several transactions, so nobody may work with the backend meanwhile.
func Import(ctx context.Context, backend Backend, records []Record) error {
	var ops []Op
	size := 0
	write := func() error {
		if _, err := backend.Txn(ctx, 0, ops); err != nil {
			return fmt.Errorf("write restored state: %w", err)
		}
		ops, size = nil, 0
		return nil
	}
	for _, r := range records {
		op := Op{Key: r.Key, Value: r.Value}
		if len(ops) == importOps || len(ops) > 0 && size+op.size() > importBytes {
			if err := write(); err != nil {
				return err
			}
		}
		ops, size = append(ops, op), size+op.size()
	}
	if len(ops) == 0 {
		return nil
	}
	return write()
}
