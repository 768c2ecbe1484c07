package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// tryStart is start, of which a panic is an error: a damaged database brings one out.
func (b *Builder) tryStart(ctx context.Context) (e *engine, err error) {
	err = fault.Contain(b.Log, "start of the builder", func() error {
		e, err = b.start(ctx)
		return err
	})
	return e, err
}

// startEmpty starts BuildKit with an empty cache if it could not be started because one of its databases is damaged. They are set aside together, because they
// describe one another; what they held in containerd's stores is let go.
func (b *Builder) startEmpty(ctx context.Context, cause error) (*engine, error) {
	files, _ := filepath.Glob(filepath.Join(b.Root, "*.db")) // fails for malformed patterns only
	damage := runtime.Damaged(files)
	var panicked *fault.Error
	if damage == nil && !errors.As(cause, &panicked) {
		return nil, cause
	}
	if damage == nil {
		damage = cause
	}
	if err := b.SetAside(b.Root, damage); err != nil {
		return nil, errors.Join(cause, err)
	}
	if err := b.forgetCache(ctx); err != nil {
		b.Log.Warn("what the damaged cache of builds held cannot be let go; it takes space on the disk", "err", err)
	}
	return b.start(ctx)
}

// cacheLease is the label of the leases by which BuildKit holds the records of its cache; no other lease here has it.
const cacheLease = "containerd.io/gc.flat"

// forgetCache lets go of what BuildKit's cache holds.
func (b *Builder) forgetCache(ctx context.Context) error {
	manager := b.Runtime.Client.LeasesService()
	all, err := manager.List(ctx, fmt.Sprintf("labels.%q", cacheLease))
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	var errs []error
	for _, l := range all {
		if err := manager.Delete(ctx, leases.Lease{ID: l.ID}); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makeRoot makes the folder of the databases, and in it the program that runs steps: runc with its state below the exec root, where two daemons on one machine do
// not meet. The exec root itself may be on a file system from which no program can be run.
func (b *Builder) makeRoot() error {
	if err := os.MkdirAll(b.Root, 0o711); err != nil { // #nosec G301 -- steps' mounts may be below
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %q --root %q \"$@\"\n", b.Runtime.OCI, b.stepsState())
	return os.WriteFile(b.runc(), []byte(script), 0o700) // #nosec G306 -- a program
}

// runc is the program that runs steps.
func (b *Builder) runc() string { return filepath.Join(b.Root, "runc") }

// stepsState is where runc has its state of steps that run.
func (b *Builder) stepsState() string { return filepath.Join(b.State, "runc") }
