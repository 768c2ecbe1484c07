package store

import (
	"context"
	"errors"
)

const (
	// Prefix is the beginning of every key of the store.
	Prefix = "/shoal/"
	// EpochKey is the key that a member writes when it becomes the leader. Its value is the member's ID, and the revision of the write is the
	// leader's epoch.
	EpochKey = Prefix + "leader"
)

// Record is a key and its value at some revision. A nil Value means that the key was deleted.
type Record struct {
	Key   string
	Value []byte
	Rev   uint64 // of the key's last change
}

// AnyRevision as Op.If means that the operation does not depend on the key's revision.
const AnyRevision = ^uint64(0)

// Op writes Value to Key, or deletes Key if Value is nil, on the condition that Key was last changed at revision If. With an If of 0 the condition
// is that there is no such key.
type Op struct {
	Key   string
	Value []byte
	If    uint64
}

// KeyConflict is the error of a transaction one of whose conditions did not hold: the key was changed at another revision than Op.If.
type KeyConflict struct{ Key string }

// Error names the key.
func (e *KeyConflict) Error() string { return "key " + e.Key + " has changed" }

// ErrCompacted is the error of a watch for revisions that the backend no longer has. The caller has to load everything again.
var ErrCompacted = errors.New("revision has been compacted")

// ErrRemoved says that the other members have taken this one out of the store. Its data is of no use any more; with any other error it is.
var ErrRemoved = errors.New("the other managers have removed this one from the store")

// ErrNoData says that a member that should have data has none. It must not found a store of its own.
var ErrNoData = errors.New("the copy of the cluster's state on this node is gone")

// ErrDamaged says that a member's data cannot be read, and reading it again will not help.
var ErrDamaged = errors.New("the copy of the cluster's state on this node is damaged")

// ErrRestart says that a member which could only be read can be started as a whole now.
var ErrRestart = errors.New("the copy of the cluster's state on this node can be changed again")

// Backend is a replicated map of keys to values. Every write has a revision, a number that grows with each write.
type Backend interface {
	// Load returns the records of all keys that begin with Prefix, and the revision at which they were read.
	Load(ctx context.Context) ([]Record, uint64, error)
	// Txn performs all operations at one revision, which it returns, or none of them. The error is a *KeyConflict if the condition of one does not
	// hold, ErrFenced if fence is neither 0 nor the revision of EpochKey, ErrNoLeader if there is no majority of members, and ErrTooLarge if
	// and only if the operations are more than MaxTxnOps or MaxTxnBytes.
	Txn(ctx context.Context, fence uint64, ops []Op) (uint64, error)
	// Watch calls each with the records of every revision after the given one, in order. It returns when ctx ends or with an error, such as
	// ErrCompacted.
	Watch(ctx context.Context, after uint64, each func(rev uint64, records []Record)) error
}
