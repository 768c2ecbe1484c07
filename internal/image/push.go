package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Push sends an image to the registry in its name, or all names of a repository if ref has neither tag nor digest. An image for several platforms goes as a
// whole; if the node has not all of it, and the registry neither, what it has for one platform goes in its place, and progress says so. With a platform only
// what the image is for that goes. progress must not be nil.
func (s *Store) Push(ctx context.Context, ref string, platform *ocispec.Platform, auth registry.Auth, progress func(Progress)) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	ctx = runtime.WithNamespace(ctx)
	progress(Progress{Status: fmt.Sprintf("The push refers to repository [%s]", named.Name())})
	if !reference.IsNameOnly(named) {
		return s.pushName(ctx, named, platform, auth, progress)
	}
	names, err := s.tagsOf(ctx, named)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errdefs.ErrNotFound.WithMessage("An image does not exist locally with the tag: " + reference.FamiliarName(named))
	}
	for _, name := range names {
		if err := s.pushName(ctx, name, platform, auth, progress); err != nil {
			return err
		}
	}
	return nil
}

// tagsOf lists the tagged names of a repository.
func (s *Store) tagsOf(ctx context.Context, repository reference.Named) ([]reference.Named, error) {
	records, err := s.Client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var names []reference.Named
	for _, r := range records {
		if strings.HasPrefix(r.Name, danglingPrefix) {
			continue
		}
		named, err := reference.ParseNormalizedNamed(r.Name)
		if err != nil || named.Name() != repository.Name() {
			continue
		}
		if _, tagged := named.(reference.Tagged); tagged {
			names = append(names, named)
		}
	}
	slices.SortFunc(names, func(a, b reference.Named) int { return strings.Compare(a.String(), b.String()) })
	return names, nil
}

// pushName sends what one name refers to.
func (s *Store) pushName(ctx context.Context, named reference.Named, platform *ocispec.Platform, auth registry.Auth, progress func(Progress)) error {
	record, err := s.Client.ImageService().Get(ctx, named.String())
	if err != nil {
		return errdefs.ErrNotFound.WithMessage("tag does not exist: " + reference.FamiliarString(named))
	}
	ctx, done, err := s.Client.WithLease(ctx) // an image that is removed meanwhile is pushed to its end
	if err != nil {
		return fmt.Errorf("push image %s: %w", named, err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // if this fails, the lease expires by itself
	target := record.Target
	if platform != nil {
		if target, err = s.transferred(ctx, record, platform); err != nil {
			return err
		}
	}
	resolver := s.Registries.Resolver(ctx, auth)
	err = s.pushContent(ctx, resolver, named, target)
	if errdefs.IsNotFound(err) && images.IsIndexType(target.MediaType) && platform == nil {
		instead, failure := s.transferred(ctx, record, nil)
		if failure != nil {
			return failure
		}
		if instead.Digest != target.Digest {
			if err = s.pushContent(ctx, resolver, named, instead); err == nil {
				progress(Progress{Instead: &PushedInstead{OriginalIndex: target, SelectedManifest: instead}})
			}
			target = instead
		}
	}
	if errdefs.IsNotFound(err) {
		progress(Progress{Missing: &target})
		return errdefs.ErrNotFound.WithMessage(err.Error())
	}
	if err != nil {
		return fmt.Errorf("push image %s: %w", reference.FamiliarString(named), err)
	}
	if t, ok := named.(reference.Tagged); ok {
		progress(Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", t.Tag(), target.Digest, target.Size)})
		progress(Progress{Pushed: &Pushed{Tag: t.Tag(), Digest: target.Digest.String(), Size: target.Size}})
	}
	s.publish("push", reference.FamiliarString(named), reference.FamiliarName(named))
	return nil
}

// pushContent sends a manifest or an index under a name, with all that it refers to and the registry does not have.
func (s *Store) pushContent(ctx context.Context, resolver remotes.Resolver, named reference.Named, target ocispec.Descriptor) error {
	ref := named.String()
	if !strings.Contains(ref, "@") { // so that only the target gets the tag
		ref += "@" + target.Digest.String()
	}
	pusher, err := resolver.Pusher(ctx, ref)
	if err != nil {
		return err
	}
	return remotes.PushContent(ctx, pusher, target, s.Client.ContentStore(), s.uploads.Load(), platforms.All, nil)
}

// transferred is what of an image goes over when a part of it is to be pushed or saved: what it is for the platform; without one, all of it if the node has all
// of it, else what it has for the node's platform or for the only one. The errors are Docker's.
func (s *Store) transferred(ctx context.Context, record images.Image, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	all, err := s.Manifests(ctx, &Image{Target: record.Target})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	complete := true
	var candidates []Manifest
	for _, m := range all {
		switch {
		case !m.Available:
			complete = false
		case m.Attestation():
		case platform == nil || platforms.OnlyStrict(*platform).Match(m.Platform):
			candidates = append(candidates, m)
		}
	}
	switch {
	case len(candidates) == 0 && platform != nil:
		return ocispec.Descriptor{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s)",
			recordName(record), platforms.FormatAll(*platform)))
	case len(candidates) == 0:
		return ocispec.Descriptor{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not provide any platform", recordName(record)))
	case platform == nil && complete:
		return record.Target, nil
	case len(candidates) == 1:
		return candidates[0].Descriptor, nil
	case platform != nil:
		return ocispec.Descriptor{}, errdefs.ErrConflict.WithMessage("multiple manifests found for platform " + platforms.FormatAll(*platform))
	}
	host := platforms.Default()
	best := slices.MinFunc(candidates, func(a, b Manifest) int {
		switch {
		case host.Less(a.Platform, b.Platform):
			return -1
		case host.Less(b.Platform, a.Platform):
			return 1
		}
		return 0
	})
	if !host.Match(best.Platform) {
		return ocispec.Descriptor{}, errdefs.ErrConflict.WithMessage("multiple matching manifests found but no specific platform requested")
	}
	return best.Descriptor, nil
}

// recordName is how messages call what a record refers to.
func recordName(record images.Image) string {
	if strings.HasPrefix(record.Name, danglingPrefix) {
		return record.Target.Digest.String()
	}
	return familiarName(record.Name)
}
