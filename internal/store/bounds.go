package store

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// The bounds of one transaction, which every Backend has.
const (
	// MaxTxnOps is how many operations a transaction may have.
	MaxTxnOps = 16384
	// MaxTxnBytes is how long its keys and values may be together.
	MaxTxnBytes = 16 << 20
)

// ErrTooLarge is the error of a transaction beyond MaxTxnOps or MaxTxnBytes. Nothing was written, and nothing would be if it were tried again.
var ErrTooLarge = errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
	"the change is too large: the cluster's state takes at most %d MiB and %d objects in one step", MaxTxnBytes>>20, MaxTxnOps))

// CheckTxn is the error of a transaction that is larger than the bounds, for backends to begin with.
func CheckTxn(ops []Op) error {
	if len(ops) > MaxTxnOps {
		return fmt.Errorf("%d operations: %w", len(ops), ErrTooLarge)
	}
	size := 0
	for _, op := range ops {
		if size += op.size(); size > MaxTxnBytes {
			return fmt.Errorf("key %s and those before it: %w", op.Key, ErrTooLarge)
		}
	}
	return nil
}

func (op Op) size() int { return len(op.Key) + len(op.Value) }

// Group names objects that one transaction must hold together when a larger change is committed in parts.
type Group struct {
	Kind Kind
	ID   string // of the object; for tasks of services, of the service
	// Slot, or Node in global services, is the place of the tasks.
	Slot uint64
	Node string
}

// GroupOf is the group that an object belongs to. The tasks of one slot are a group, because a task that is to stop and the one that replaces it are one
// decision; so are those of a global service on one node. Every other object is a group of its own.
func GroupOf(o Object) Group {
	t, ok := o.(*shoal.Task)
	switch {
	case !ok || t.ServiceID == "":
		return Group{Kind: KindOf(o), ID: o.ObjectID()}
	case t.Slot != 0:
		return Group{Kind: KindTask, ID: string(t.ServiceID), Slot: t.Slot}
	default:
		return Group{Kind: KindTask, ID: string(t.ServiceID), Node: string(t.NodeID)}
	}
}
