package image

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Load stores and unpacks the images of a Docker or OCI archive, compressed or not, and returns them. Content for other platforms than the node's may be missing
// from it. With a platform, no more than what they are for that is stored, and an image that is not for it is a not found error. After an error, the images before
// the one that failed are stored.
func (s *Store) Load(ctx context.Context, r io.Reader, platform *ocispec.Platform) ([]*Image, error) {
	ctx = runtime.WithNamespace(ctx)
	plain, err := compression.DecompressStream(roomyReader{r, s})
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close()
	ctx, done, err := s.Client.WithLease(ctx) // until the images that lose their names to these are kept in another way
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", err)
	}
	defer func() { _ = done(ctx) }() // if this fails, the lease expires by itself
	before, err := s.Client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", err)
	}
	kept, err := s.presentManifests(ctx, before)
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", err)
	}
	records, err := s.Client.Import(ctx, plain, client.WithAllPlatforms(true),
		client.WithImageRefTranslator(archiveName), client.WithSkipMissing(),
		client.WithDigestRef(func(d digest.Digest) string { return danglingPrefix + d.String() }),
		client.WithSkipDigestRef(func(name string) bool { return name != "" }))
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", err)
	}
	for _, old := range before {
		if err := s.keepReplaced(ctx, old, records); err != nil {
			return nil, fmt.Errorf("load archive: %w", err)
		}
	}
	return s.loaded(ctx, records, platform, kept)
}

// loaded unpacks what the records of an archive refer to. Of indexes that come for one platform only, the rest is let go, save what is kept.
func (s *Store) loaded(ctx context.Context, records []images.Image, platform *ocispec.Platform, kept map[digest.Digest]bool) ([]*Image, error) {
	var loaded []*Image
	var incomplete []string
	for _, record := range records {
		s.evict(record.Target.Digest)
		if platform != nil {
			if err := s.letGo(ctx, record.Target, func(d ocispec.Descriptor) bool {
				return !kept[d.Digest] && !platforms.OnlyStrict(*platform).Match(orUnknown(d.Platform))
			}); err != nil {
				return nil, fmt.Errorf("load archive: %w", err)
			}
		}
		parsed, err := s.parse(ctx, record)
		if err != nil {
			return nil, err
		}
		img := *parsed
		if platform != nil {
			variant, err := s.whole(ctx, parsed, *platform)
			if err != nil {
				return nil, err
			}
			if variant == nil {
				incomplete = append(incomplete, recordName(record))
				continue
			}
			img = *parsed.as(variant)
		}
		if !strings.HasPrefix(record.Name, danglingPrefix) {
			img.Names = []string{record.Name}
		}
		if err := s.Unpack(ctx, &img); err != nil {
			return nil, err
		}
		loaded = append(loaded, &img)
		s.publish("load", img.ID, strings.Join(img.RepoTags(), " "))
	}
	return loaded, notProvided(incomplete, platform, len(records))
}

// notProvided says in Docker's words that images of an archive are not for the platform that was asked for.
func notProvided(names []string, platform *ocispec.Platform, all int) error {
	switch {
	case platform != nil && all == 0:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no images providing the requested platform %s found", platforms.FormatAll(*platform)))
	case len(names) == 0:
		return nil
	case len(names) == 1:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image %s was loaded, but doesn't provide the requested platform (%s)", names[0], platforms.FormatAll(*platform)))
	}
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("images [%s] were loaded, but don't provide the requested platform (%s)", strings.Join(names, ", "), platforms.FormatAll(*platform)))
}

// archiveName turns a name in an archive into a full reference; "" if it is not a valid one. Some tools call Docker's registry
// index.docker.io.
func archiveName(given string) string {
	given = strings.TrimPrefix(given, "index.")
	named, err := reference.ParseDockerRef(given)
	if err != nil {
		return ""
	}
	return named.String()
}

// Save writes images as one archive, which Docker and OCI tools read. Each has the name it was asked for by, none if it was asked for by its ID; a name without
// a tag stands for all tags of its repository. With a platform only what they are for that is saved. Nothing is written before all are found; after another
// error, w may have part of the archive.
func (s *Store) Save(ctx context.Context, refs []string, platform *ocispec.Platform, w io.Writer) error {
	ctx, done, err := s.Client.WithLease(runtime.WithNamespace(ctx)) // what is removed meanwhile is saved to its end
	if err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // if this fails, the lease expires by itself
	opts := []archive.ExportOpt{archive.WithPlatform(everyPlatform{platforms.Default()}), archive.WithSkipMissing(s.Client.ContentStore())}
	if platform != nil {
		opts[0] = archive.WithPlatform(platforms.OnlyStrict(*platform))
	}
	var saved []*Image
	for _, ref := range refs {
		img, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		names, err := s.savedNames(ctx, ref)
		if err != nil {
			return err
		}
		target := img.Target
		if len(names) > 0 { // by an ID, there may be no name
			opts, err = s.saveNames(ctx, opts, names, platform)
		} else {
			if platform != nil {
				target, err = s.savedTarget(ctx, images.Image{Name: danglingPrefix, Target: img.Target}, platform)
			}
			opts = append(opts, archive.WithManifest(target))
		}
		if err != nil {
			return err
		}
		saved = append(saved, img)
	}
	if err := s.Client.Export(ctx, w, opts...); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	for _, img := range saved {
		s.publish("save", img.ID, "")
	}
	return nil
}

// savedNames lists the names that an archive has for what a user wants to save; none for an ID.
func (s *Store) savedNames(ctx context.Context, ref string) ([]reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, nil //nolint:nilerr // an ID
	}
	if reference.IsNameOnly(named) {
		return s.tagsOf(ctx, named)
	}
	normal, err := normalize(ref)
	if err != nil {
		return nil, err
	}
	if _, err := s.Client.ImageService().Get(ctx, normal.String()); err != nil {
		return nil, nil //nolint:nilerr // a name with the digest of an image
	}
	return []reference.Named{normal}, nil
}

func (s *Store) saveNames(ctx context.Context, opts []archive.ExportOpt, names []reference.Named, platform *ocispec.Platform) ([]archive.ExportOpt, error) {
	for _, name := range names {
		record, err := s.Client.ImageService().Get(ctx, name.String())
		if err != nil {
			return nil, fmt.Errorf("save image %s: %w", name, err)
		}
		target := record.Target
		if platform != nil {
			if target, err = s.savedTarget(ctx, record, platform); err != nil {
				return nil, err
			}
		}
		opts = append(opts, archive.WithManifest(target, name.String()))
	}
	return opts, nil
}

// savedTarget is what of an image is saved for a platform.
func (s *Store) savedTarget(ctx context.Context, record images.Image, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	target, err := s.transferred(ctx, record, platform)
	if err != nil {
		return target, fmt.Errorf("no suitable export target found: %w", err)
	}
	return target, nil
}
