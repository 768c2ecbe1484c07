package build

import (
	"context"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/moby/buildkit/util/leaseutil"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// differ compares and applies layers in shoal's namespace: containerd is called in memory, where no client adds it.
type differ struct {
	diff.Comparer
	diff.Applier
}

// Compare implements diff.Comparer.
func (d differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispec.Descriptor, error) {
	return d.Comparer.Compare(runtime.WithNamespace(ctx), lower, upper, opts...)
}

// Apply implements diff.Applier.
func (d differ) Apply(ctx context.Context, layer ocispec.Descriptor, to []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	return d.Applier.Apply(runtime.WithNamespace(ctx), layer, to, opts...)
}

// collector returns what makes containerd collect its garbage now: the removal of a lease that waits for it.
func collector(lm *leaseutil.Manager) func(context.Context) (gc.Stats, error) {
	return func(ctx context.Context) (gc.Stats, error) {
		lease, err := lm.Create(ctx, leases.WithRandomID())
		if err != nil {
			return nil, err
		}
		return nil, lm.Delete(ctx, leases.Lease{ID: lease.ID}, leases.SynchronousDelete)
	}
}
