package store

import (
	"context"
	"errors"
)

// Prefix is that of all keys of the store. EpochKey is written by a manager that becomes leader; its revision is the leader's epoch.
const (
	Prefix   = "/shoal/"
	EpochKey = Prefix + "leader"
)

// Record is a key and its value at some revision. A nil Value means that the key was deleted.
type Record struct {
	Key   string
	Value []byte
	Rev   uint64 // of its last change
}

// AnyRevision in an Op says that the key's revision does not matter.
const AnyRevision = ^uint64(0)

// Op writes Value to Key, or deletes Key if Value is nil, provided that Key's last change was at revision If (0: no such key).
type Op struct {
	Key   string
	Value []byte
	If    uint64
}

// KeyConflict says that a key's revision is not the one that an Op expected.
type KeyConflict struct{ Key string }

// Error names the key.
func (e *KeyConflict) Error() string { return "key " + e.Key + " has changed" }

// ErrCompacted says that the backend no longer has the revisions that a watch asks for; the caller must load again.
var ErrCompacted = errors.New("revision has been compacted")

// Backend is a replicated, ordered map of keys to values in which every write has a revision.
type Backend interface {
	// Load returns all records below Prefix and the revision they were read at.
	Load(ctx context.Context) ([]Record, uint64, error)
	// Txn performs all ops at one revision, which it returns, or none and a *KeyConflict; ErrFenced when fence is not 0 and
	// not EpochKey's revision.
	Txn(ctx context.Context, fence uint64, ops []Op) (uint64, error)
	// Watch calls each with the records of every revision after the given one, in order. It returns when ctx ends or the backend
	// fails, and ErrCompacted if the backend no longer has those revisions.
	Watch(ctx context.Context, after uint64, each func(rev uint64, records []Record)) error
}
