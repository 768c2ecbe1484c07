package image

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Records is containerd's store of the images' names for those that write them through containerd's interface, such as the builder. What it writes is
// written as all else here does: an image whose name goes to another stays without one, and events are published.
func (s *Store) Records() images.Store { return records{s} }

// records implements images.Store.
type records struct{ s *Store }

// Get implements images.Store.
func (r records) Get(ctx context.Context, name string) (images.Image, error) {
	return r.s.Client.ImageService().Get(runtime.WithNamespace(ctx), name)
}

// List implements images.Store.
func (r records) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return r.s.Client.ImageService().List(runtime.WithNamespace(ctx), filters...)
}

// Create implements images.Store.
func (r records) Create(ctx context.Context, record images.Image) (images.Image, error) {
	ctx = runtime.WithNamespace(ctx)
	created, err := r.s.Client.ImageService().Create(ctx, record)
	if err != nil {
		return images.Image{}, err
	}
	r.named(ctx, created)
	return created, nil
}

// Update implements images.Store.
func (r records) Update(ctx context.Context, record images.Image, fields ...string) (images.Image, error) {
	ctx = runtime.WithNamespace(ctx)
	before, err := r.s.Client.ImageService().Get(ctx, record.Name)
	if err != nil {
		return images.Image{}, err
	}
	if before.Target.Digest != record.Target.Digest {
		if err := r.s.keep(ctx, before); err != nil {
			return images.Image{}, err
		}
	}
	updated, err := r.s.Client.ImageService().Update(ctx, record, fields...)
	if err != nil {
		return images.Image{}, err
	}
	r.named(ctx, updated)
	return updated, nil
}

// Delete implements images.Store.
func (r records) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	return r.s.Client.ImageService().Delete(runtime.WithNamespace(ctx), name, opts...)
}

// named does what follows from an image's having got a name.
func (r records) named(ctx context.Context, record images.Image) {
	if strings.HasPrefix(record.Name, danglingPrefix) {
		return
	}
	r.s.unkeep(ctx, record.Target.Digest)
	img, err := r.s.parse(ctx, record)
	named, nameErr := reference.ParseNormalizedNamed(record.Name)
	if err == nil && nameErr == nil {
		r.s.publish("tag", img.ID, reference.FamiliarString(named))
	}
}
