package image

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Get finds an image. A prefix that fits several images finds none.
func (s *Store) Get(ctx context.Context, ref string) (*Image, error) {
	ctx = runtime.WithNamespace(ctx)
	if named, err := normalize(ref); err == nil {
		found, err := s.Client.ImageService().Get(ctx, named.String())
		if err == nil {
			img, err := s.parse(ctx, found)
			if err != nil {
				return nil, err
			}
			return s.withNames(ctx, img)
		}
		if !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("find image %s: %w", ref, err)
		}
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	if img := byDigest(all, ref); img != nil {
		return img, nil
	}
	return nil, NotFound(ref)
}

// NotFound returns Docker's error for an image that the node does not have, of kind not found.
func NotFound(ref string) error {
	text := ref
	if named, err := normalize(ref); err == nil {
		text = reference.FamiliarString(named)
	}
	return errdefs.ErrNotFound.WithMessage("No such image: " + text)
}

// byDigest finds an image by a prefix of its ID for any platform, at least four digits long, or by a reference with a digest; nil if there is none. A
// prefix that fits two images finds none.
func byDigest(all []*Image, ref string) *Image {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		if d, ok := named.(reference.Digested); ok {
			for _, img := range all {
				if img.Target.Digest == d.Digest() && (len(img.Names) == 0 || len(img.namesIn(named.Name())) > 0) {
					return img
				}
			}
		}
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	if len(prefix) < 4 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil
	}
	var found *Image
	for _, img := range all {
		for _, variant := range img.variants {
			if !strings.HasPrefix(strings.TrimPrefix(variant.ID, "sha256:"), prefix) {
				continue
			}
			if found != nil && found.ID != variant.ID {
				return nil
			}
			if found == nil || variant.ID == img.ID {
				found = img.as(variant)
			}
		}
	}
	return found
}

// namesIn lists the image's names in a repository, such as "docker.io/library/nginx".
func (i *Image) namesIn(repository string) []string {
	var names []string
	for _, n := range i.Names {
		if ref, err := reference.ParseNormalizedNamed(n); err == nil && ref.Name() == repository {
			names = append(names, n)
		}
	}
	return names
}

// withNames returns the image with its names, which a parsed image does not have.
func (s *Store) withNames(ctx context.Context, img *Image) (*Image, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, other := range all {
		if other.ID == img.ID {
			return other, nil
		}
	}
	return img, nil
}

// List returns the images, newest first. Images whose content is incomplete are left out.
func (s *Store) List(ctx context.Context) ([]*Image, error) {
	ctx = runtime.WithNamespace(ctx)
	records, err := s.Client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	byID := map[string]*Image{}
	var all []*Image
	for _, r := range records {
		parsed, err := s.parse(ctx, r)
		if err != nil {
			s.Log.Debug("image has no usable content and is not listed", "image", r.Name, "err", err)
			continue
		}
		img, ok := byID[parsed.ID]
		if !ok {
			fresh := *parsed
			img = &fresh
			byID[img.ID] = img
			all = append(all, img)
		}
		if !strings.HasPrefix(r.Name, danglingPrefix) {
			img.Names = append(img.Names, r.Name)
		}
	}
	slices.SortStableFunc(all, func(a, b *Image) int { return b.Created().Compare(a.Created()) })
	return all, nil
}

// Created is when the image was made; zero if it does not say.
func (i *Image) Created() time.Time {
	if i.Spec.Created == nil {
		return time.Time{}
	}
	return *i.Spec.Created
}

// normalize reads a reference as Docker does: "nginx" is docker.io/library/nginx:latest.
func normalize(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid reference format: %w", errdefs.ErrInvalidArgument)
	}
	return named, nil
}
