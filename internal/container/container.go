package container

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/container/streams"
	"github.com/shoal-dev/shoal/internal/logs"
)

// container is one container: its record, and its task while it runs.
type container struct {
	id         string
	expendable bool       // Spec.Expendable
	op         sync.Mutex // serializes start, stop, pause, update and remove; taken before flushing and mu

	flushing sync.Mutex // held while the record is written, which is not longer than a disk takes; taken before mu; guards flushed
	flushed  uint64     // the change that is on disk

	mu            sync.Mutex // guards the fields below
	info          Info
	changes       uint64             // how often info was changed
	changed       chan struct{}      // closed and replaced at every change of info
	task          client.Task        // nil unless the container runs
	ended         chan struct{}      // closed when the task has ended and all is cleaned up after it; nil without a task
	cancelRestart context.CancelFunc // ends the wait before a restart by the restart policy; nil when there was none yet
	removed       bool
	stdinEnded    bool // the standard input of the task, or of the one that is about to start, has ended

	log     *logs.Log
	streams streams.Streams
}

// snapshot returns a copy of the record, and a channel that is closed at its next change.
func (c *container) snapshot() (Info, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.info
	info.ExecIDs = slices.Clone(info.ExecIDs)
	if info.State.Health != nil {
		h := *info.State.Health
		h.Log = slices.Clone(h.Log)
		info.State.Health = &h
	}
	return info, c.changed
}

// currentTask returns the record and the running task with the channel that is closed after its end; task and ended are nil if the
// container does not run.
func (c *container) currentTask() (info Info, task client.Task, ended <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info, c.task, c.ended
}

// isRemoved reports whether the container has been removed since the caller found it.
func (c *container) isRemoved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removed
}

// running reports whether a container in this state has a process.
func running(s Status) bool { return s == Running || s == Paused }

// notRunning is Docker's error for what can only be done to a container that runs.
func notRunning(info Info) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is not running", info.ID))
}

// Inspect returns a copy of a container's record.
func (e *Engine) Inspect(ref string) (Info, error) {
	info, _, err := e.Watch(ref)
	return info, err
}

// Watch returns a copy of a container's record, and a channel that is closed at the next change of that record. After a change,
// call Watch again.
func (e *Engine) Watch(ref string) (Info, <-chan struct{}, error) {
	c, err := e.find(ref)
	if err != nil {
		return Info{}, nil, err
	}
	info, changed := c.snapshot()
	return info, changed, nil
}
