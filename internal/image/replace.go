package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// putRecord creates the record of an image's name, or replaces it. An image that loses its last name that way is kept without one.
func (s *Store) putRecord(ctx context.Context, record images.Image) error {
	before, err := s.Client.ImageService().Get(ctx, record.Name)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := s.keep(ctx, before); err != nil {
		return err
	}
	_, err = s.Client.ImageService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.Client.ImageService().Update(ctx, record)
	}
	if err == nil && record.Name != danglingPrefix+record.Target.Digest.String() {
		s.unkeep(ctx, record.Target.Digest)
	}
	return err
}

// keep makes sure that an image stays when its name goes to another, by a record without a name of the user's. It does nothing for the zero record.
func (s *Store) keep(ctx context.Context, record images.Image) error {
	if record.Target.Digest == "" {
		return nil
	}
	_, err := s.Client.ImageService().Create(ctx, images.Image{Name: danglingPrefix + record.Target.Digest.String(), Target: record.Target})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep image %s: %w", record.Target.Digest, err)
	}
	return nil
}

// unkeep undoes keep for an image that has a name. If it fails, the image stays when its last name is removed, until it is pruned.
func (s *Store) unkeep(ctx context.Context, target digest.Digest) {
	_ = s.Client.ImageService().Delete(ctx, danglingPrefix+target.String())
}

// keepReplaced keeps an image whose name one of the new records has taken, and which has no other name.
func (s *Store) keepReplaced(ctx context.Context, old images.Image, records []images.Image) error {
	taken := slices.ContainsFunc(records, func(r images.Image) bool { return r.Name == old.Name && r.Target.Digest != old.Target.Digest })
	if !taken {
		return nil
	}
	all, err := s.Client.ImageService().List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(r images.Image) bool { return r.Target.Digest == old.Target.Digest }) {
		return nil
	}
	return s.keep(ctx, old)
}
