package image

import (
	"context"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// download is what one pull has tried to fetch.
type download struct {
	mu      sync.Mutex // guards seen
	seen    []ocispec.Descriptor
	content interface {
		Abort(ctx context.Context, ref string) error
	}
}

// note is a handler of images that remembers each part before it is fetched.
func (d *download) note(_ context.Context, part ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, part)
	return nil, nil
}

var _ images.HandlerFunc = (*download)(nil).note

// discard removes what has arrived, if a pull has failed because bytes did not have the digest that they should. Otherwise what has arrived stays: the
// next pull goes on from there, and would find the wrong bytes again.
func (d *download) discard(ctx context.Context, err error) {
	if !errdefs.IsFailedPrecondition(err) && !errdefs.IsDataLoss(err) {
		return
	}
	d.mu.Lock()
	seen := slices.Clone(d.seen)
	d.mu.Unlock()
	for _, part := range seen {
		_ = d.content.Abort(context.WithoutCancel(ctx), remotes.MakeRefKey(ctx, part)) // not found, if it has not arrived or is complete
	}
}
