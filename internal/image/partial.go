package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// keepsContent starts the labels of content that name what it keeps from the garbage collector.
const keepsContent = "containerd.io/gc.ref.content"

// letGo makes an index keep some of its manifests no longer, so that the garbage collector takes their content unless something else keeps it. The labels of the
// others stay as they are: containerd's own way of loading for one platform numbers them anew, and loses what was there for another.
func (s *Store) letGo(ctx context.Context, index ocispec.Descriptor, drop func(manifest ocispec.Descriptor) bool) error {
	if !images.IsIndexType(index.MediaType) {
		return nil
	}
	store := s.Client.ContentStore()
	children, err := images.Children(ctx, store, index)
	if err != nil {
		return err
	}
	dropped := map[string]bool{}
	for _, child := range children {
		if images.IsManifestType(child.MediaType) && drop(child) {
			dropped[child.Digest.String()] = true
		}
	}
	info, err := store.Info(ctx, index.Digest)
	if err != nil {
		return err
	}
	for name, value := range info.Labels {
		if strings.HasPrefix(name, keepsContent) && dropped[value] {
			delete(info.Labels, name)
		}
	}
	_, err = store.Update(ctx, info, "labels")
	return err
}

// presentManifests is the manifests that images have content of and keep from the garbage collector.
func (s *Store) presentManifests(ctx context.Context, records []images.Image) (map[digest.Digest]bool, error) {
	present := map[digest.Digest]bool{}
	for _, r := range records {
		index, err := s.Client.ContentStore().Info(ctx, r.Target.Digest)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		for label, value := range index.Labels {
			if !strings.HasPrefix(label, keepsContent) {
				continue
			}
			if _, err := s.Client.ContentStore().Info(ctx, digest.Digest(value)); err == nil {
				present[digest.Digest(value)] = true
			} else if !errdefs.IsNotFound(err) {
				return nil, err
			}
		}
	}
	return present, nil
}

// RemovePlatforms removes what an image is for some platforms; the rest of it stays, and so do its names. An image that would be left with nothing is removed
// with all its names. It is a conflict if a container that runs is made of what is to go.
func (s *Store) RemovePlatforms(ctx context.Context, ref string, wanted []ocispec.Platform) ([]Removed, error) {
	ctx = runtime.WithNamespace(ctx)
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	going := map[digest.Digest]bool{}
	var removed []Removed
	for _, p := range wanted {
		variant, err := s.GetFor(ctx, ref, &p)
		if err != nil {
			return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("failed to delete platform %s for image %s: %v", platforms.Format(p), img.ID, err))
		}
		for _, u := range s.usersOf(variant.ID) {
			if u.Running {
				return nil, conflict("unable to delete %s (cannot be forced) - image is being used by running container %s", shortID(variant.ID), shortID(u.Container))
			}
		}
		going[variant.Manifest.Digest] = true
		removed = append(removed, Removed{Deleted: variant.Manifest.Digest.String()})
	}
	if !slices.ContainsFunc(img.variants, func(v *Image) bool { return !going[v.Manifest.Digest] }) {
		return s.Remove(ctx, img.ID, true)
	}
	if err := s.letGo(ctx, img.Target, func(d ocispec.Descriptor) bool {
		return going[d.Digest] || going[digest.Digest(d.Annotations[annotationReferenceDigest])]
	}); err != nil {
		return nil, fmt.Errorf("remove platforms of image %s: %w", ref, err)
	}
	defer s.evict(img.Target.Digest)
	return removed, s.collect(ctx)
}

// collect makes containerd's garbage collector run now.
func (s *Store) collect(ctx context.Context) error {
	lease, err := s.Client.LeasesService().Create(ctx, leases.WithRandomID())
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if err := s.Client.LeasesService().Delete(ctx, lease, leases.SynchronousDelete); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// usersOf lists what uses what an image is for one platform.
func (s *Store) usersOf(id string) []User { return s.users(&Image{variants: []*Image{{ID: id}}}) }

// whole is what an image is for a platform if the node has all of that; nil if not.
func (s *Store) whole(ctx context.Context, img *Image, platform ocispec.Platform) (*Image, error) {
	variant := preferred(img.variants, platforms.OnlyStrict(platform))
	if variant == nil {
		return nil, nil
	}
	available, err := s.available(ctx, variant.Manifest)
	if err != nil || !available {
		return nil, err
	}
	return variant, nil
}

// orUnknown is the platform that an index tells of a manifest.
func orUnknown(platform *ocispec.Platform) ocispec.Platform {
	if platform == nil {
		return ocispec.Platform{OS: unknownPlatform, Architecture: unknownPlatform}
	}
	return *platform
}
