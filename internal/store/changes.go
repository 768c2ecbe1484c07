package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// Changes is what to write in one transaction: everything or nothing.
type Changes struct {
	// Puts is the objects to create or replace. Their Meta.Version is that of the object that was read, 0 for an object to create. The store keeps
	// copies, not the pointers.
	Puts []Object
	// Deletes is the objects to delete, on the condition that they still have the Version given.
	Deletes []Object
	// Fence, if not 0, is the epoch in which the caller leads: nothing is written if another epoch has begun since.
	Fence uint64
	// RequeueAt, if not zero, is when the reconcile loop is to call the controller again for the same key. The store ignores it.
	RequeueAt time.Time
}

// Put adds an object to create or replace.
func (c *Changes) Put(o Object) { c.Puts = append(c.Puts, o) }

// Delete adds an object to delete.
func (c *Changes) Delete(o Object) { c.Deletes = append(c.Deletes, o) }

// Empty tells whether there is nothing to write.
func (c *Changes) Empty() bool { return len(c.Puts) == 0 && len(c.Deletes) == 0 }

// Requeue sets RequeueAt to t, unless it is earlier already.
func (c *Changes) Requeue(t time.Time) {
	if c.RequeueAt.IsZero() || t.Before(c.RequeueAt) {
		c.RequeueAt = t
	}
}

// Merge adds the changes of other. They replace puts of the same objects.
func (c *Changes) Merge(other Changes) {
	type ref struct {
		kind Kind
		id   string
	}
	later := map[ref]bool{}
	for _, o := range other.Puts {
		later[ref{KindOf(o), o.ObjectID()}] = true
	}
	for _, o := range other.Deletes {
		later[ref{KindOf(o), o.ObjectID()}] = true
	}
	keep := c.Puts[:0:0]
	for _, o := range c.Puts {
		if !later[ref{KindOf(o), o.ObjectID()}] {
			keep = append(keep, o)
		}
	}
	c.Puts = append(keep, other.Puts...)
	c.Deletes = append(c.Deletes, other.Deletes...)
}

// ErrFenced is the error of a commit whose Fence is no longer the current epoch: another leader has begun, and nothing was written.
var ErrFenced = fmt.Errorf("another leader has begun: %w", errdefs.ErrFailedPrecondition)

// ErrNoLeader says, in Docker's words, that a majority of the managers cannot be reached. What was to be written may still be written
// later.
var ErrNoLeader = errdefs.ErrUnavailable.WithMessage("rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few " +
	"managers are online. Make sure more than half of the managers are online.")

// ConflictError is the error of a commit when an object has changed since it was read, or when its name is taken. Nothing was written.
type ConflictError struct {
	Kind Kind
	ID   string
	// Name is set when the name is in use by another object; ID is then empty.
	Name string
}

// Error names the object, or the name that is taken.
func (e *ConflictError) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("%s name %s is taken", e.Kind, e.Name)
	}
	return fmt.Sprintf("%s %s has changed", e.Kind, e.ID)
}

// Unwrap is errdefs.ErrConflict.
func (e *ConflictError) Unwrap() error { return errdefs.ErrConflict }

// IsConflict tells whether err is a *ConflictError, so that the caller can read again and retry.
func IsConflict(err error) bool {
	var c *ConflictError
	return errors.As(err, &c)
}

// IsNameTaken tells whether err is a *ConflictError about a name, so that a retry would fail too.
func IsNameTaken(err error) bool {
	var c *ConflictError
	return errors.As(err, &c) && c.Name != ""
}
