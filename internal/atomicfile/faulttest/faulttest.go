// Package faulttest has whatever writes records meet every fault at every step: an error of the disk, a full disk, a write cut short, the death of the
// process, and a loss of power, which undoes what was not flushed. It reads and writes directories of the tests.
package faulttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

// fault is what happens at a step.
type fault string

const (
	inputOutput fault = "input/output error"
	diskFull    fault = "full disk"
	death       fault = "death of the process"
	powerLoss   fault = "loss of power"
)

// Case is one thing that is done to records.
type Case struct {
	// Prepare makes what there is before, in an empty directory. It may be nil.
	Prepare func(t *testing.T, dir string)
	// Do does it, as a process that has just been started would.
	Do func(dir string) error
	// State is what a process that is started then finds: a text of the test's own. It fails the test if it cannot start.
	State func(t *testing.T, dir string) string
	// Before and After are the states without it and with it: there is nothing between them.
	Before, After string
	// Unacknowledged says that a loss of power may undo it after Do has returned: nobody is told.
	Unacknowledged bool
}

// Run runs the case once without a fault, and then with each fault at each of its steps: what was acknowledged must be there, and what was not must be
// wholly there or wholly gone. It fails if there are fewer steps than least.
func Run(t *testing.T, least int, c Case) {
	t.Helper()
	steps := c.count(t)
	if steps < least {
		t.Fatalf("%d steps are not all", steps)
	}
	for at := range steps {
		for _, f := range []fault{inputOutput, diskFull, death, powerLoss} {
			t.Run(fmt.Sprintf("step %d, %s", at+1, f), func(t *testing.T) { c.meet(t, at, f) })
		}
	}
}

func (c Case) prepared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if c.Prepare != nil {
		c.Prepare(t, dir)
	}
	return dir
}

// count is how many steps it takes.
func (c Case) count(t *testing.T) int {
	t.Helper()
	dir, steps := c.prepared(t), 0
	end := atomicfile.SetFailpoint(dir, func(atomicfile.Step, string) error { steps++; return nil })
	err := c.Do(dir)
	end()
	if got := c.State(t, dir); err != nil || got != c.After {
		t.Fatalf("without a fault: %s, %v, want %s", got, err, c.After)
	}
	return steps
}

func (c Case) meet(t *testing.T, at int, f fault) {
	t.Helper()
	dir := c.prepared(t)
	d := &disk{at: at, fault: f}
	end := atomicfile.SetFailpoint(dir, d.step)
	acknowledged := false
	var wg sync.WaitGroup
	wg.Go(func() { acknowledged = c.Do(dir) == nil }) // a death ends this goroutine
	wg.Wait()
	end()
	if f == powerLoss {
		d.lose(t)
	}
	switch got := c.State(t, dir); {
	case acknowledged && got != c.After && (f != powerLoss || !c.Unacknowledged):
		t.Errorf("acknowledged, and then: %s, want %s", got, c.After)
	case got != c.Before && got != c.After:
		t.Errorf("neither what was nor what was to be: %s, want %s or %s", got, c.Before, c.After)
	}
}

// disk lets one step meet a fault, and remembers what a loss of power undoes.
type disk struct {
	at    int
	fault fault

	mu        sync.Mutex // guards what follows
	count     int
	moved     string                    // the old name of what is about to be renamed
	unflushed map[string][]func() error // by directory: undoes, in the order of what they undo
}

func (d *disk) step(s atomicfile.Step, path string) error {
	d.mu.Lock()
	d.count++
	hit := d.count == d.at+1
	d.mu.Unlock()
	if hit {
		switch d.fault {
		case inputOutput:
			return &os.PathError{Op: string(s), Path: path, Err: syscall.EIO}
		case diskFull:
			return &os.PathError{Op: string(s), Path: path, Err: syscall.ENOSPC}
		case death, powerLoss:
			runtime.Goexit()
		}
	}
	if d.fault == powerLoss {
		return d.remember(s, path)
	}
	return nil
}

// remember notes how to undo a step until its directory is flushed.
func (d *disk) remember(s atomicfile.Step, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir := filepath.Dir(path)
	if d.unflushed == nil {
		d.unflushed = map[string][]func() error{}
	}
	switch s { //nolint:exhaustive // what the others do has no name yet
	case atomicfile.StepFlushDir:
		delete(d.unflushed, path)
	case atomicfile.StepMove:
		d.moved = path
	case atomicfile.StepRename:
		if from := d.moved; from != "" {
			d.moved = ""
			d.unflushed[dir] = append(d.unflushed[dir], func() error { return os.Rename(path, from) })
			return nil
		}
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil // a directory: that it is moved at once is the file system's promise, not ours
		}
		existed := err == nil
		d.unflushed[dir] = append(d.unflushed[dir], func() error {
			if existed {
				return os.WriteFile(path, old, 0o600) // #nosec G703 -- the test's own
			}
			return os.RemoveAll(path)
		})
	case atomicfile.StepMkdir:
		d.unflushed[dir] = append(d.unflushed[dir], func() error { return os.RemoveAll(path) })
	case atomicfile.StepRemove:
		if old, err := os.ReadFile(path); err == nil {
			d.unflushed[dir] = append(d.unflushed[dir], func() error { return os.WriteFile(path, old, 0o600) }) // #nosec G703 -- the test's own
		}
	}
	return nil
}

// lose undoes what was not flushed, the last first.
func (d *disk) lose(t *testing.T) {
	t.Helper()
	for _, undos := range d.unflushed {
		for _, undo := range slices.Backward(undos) {
			if err := undo(); err != nil {
				t.Error(err)
			}
		}
	}
}
