package etcd

import (
	"context"

	"github.com/shoal-dev/shoal/internal/store"
)

// Kill stops a member as the end of its process would: it hands nothing over.
func (m *Member) Kill() {
	m.server.Server.HardStop()
	m.Close()
}

// Written is what Txn asks itself when a leader dies before it has answered.
func (m *Member) Written(ctx context.Context, ops []store.Op) (at uint64, ok bool) {
	return m.written(ctx, ops)
}
