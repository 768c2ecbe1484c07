package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unknownPlatform is the operating system of what is no image, such as what a builder attests of one.
const unknownPlatform = "unknown"

// variants reads what a target has for each platform of which there is a manifest and a configuration, in the order of its index.
func (s *Store) variants(ctx context.Context, target ocispec.Descriptor) ([]*Image, error) {
	var found []*Image
	var failure error // of one of them, which does not make the others useless
	err := s.eachManifest(ctx, target, func(manifest ocispec.Descriptor) error {
		if isAttestation(manifest) {
			return nil
		}
		img, err := s.readVariant(ctx, manifest)
		if err != nil {
			failure = err
			return ctx.Err()
		}
		img.Target = target
		found = append(found, img)
		return nil
	})
	if err == nil && len(found) == 0 {
		err = failure
	}
	return found, err
}

// eachManifest calls visit for the manifest that a target is, or for each that its index names, whether its content is there or not.
func (s *Store) eachManifest(ctx context.Context, target ocispec.Descriptor, visit func(ocispec.Descriptor) error) error {
	if !images.IsIndexType(target.MediaType) {
		return visit(target)
	}
	children, err := images.Children(ctx, s.Client.ContentStore(), target)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if images.IsIndexType(child.MediaType) || images.IsManifestType(child.MediaType) {
			if err := s.eachManifest(ctx, child, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// isAttestation tells whether a manifest of an index is no image, but tells of one.
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations[annotationReferenceType] != "" || d.Platform != nil && d.Platform.OS == unknownPlatform
}

// readVariant reads the image that a manifest describes. It is a not found error if a part of it is not on the node.
func (s *Store) readVariant(ctx context.Context, d ocispec.Descriptor) (*Image, error) {
	store := s.Client.ContentStore()
	manifest, err := images.Manifest(ctx, store, d, nil)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	data, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", manifest.Config.Digest, err)
	}
	img := &Image{ID: manifest.Config.Digest.String(), Manifest: d, Size: manifest.Config.Size}
	if err := json.Unmarshal(data, &img.Spec); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", manifest.Config.Digest, err)
	}
	for _, layer := range manifest.Layers {
		img.Size += layer.Size
		img.layers = append(img.layers, layer.Size)
	}
	img.ChainID = identity.ChainID(img.Spec.RootFS.DiffIDs).String()
	return img, nil
}

// Platform is what the image runs on: as its index says, or its configuration.
func (i *Image) Platform() ocispec.Platform {
	if i.Manifest.Platform != nil {
		return *i.Manifest.Platform
	}
	return i.Spec.Platform
}

// everyPlatform matches all platforms and prefers those that another matcher prefers.
type everyPlatform struct{ platforms.MatchComparer }

// Match implements platforms.Matcher.
func (everyPlatform) Match(ocispec.Platform) bool { return true }

// preferred is the variant that fits a matcher best; nil if none does.
func preferred(variants []*Image, matcher platforms.MatchComparer) *Image {
	var best *Image
	for _, v := range variants {
		if matcher.Match(v.Platform()) && (best == nil || matcher.Less(v.Platform(), best.Platform())) {
			best = v
		}
	}
	return best
}

// GetFor finds an image as Get does and returns what it is for a platform, or what Get returns if there is none. The node may have the image and not for
// that platform: that is a not found error too.
func (s *Store) GetFor(ctx context.Context, ref string, platform *ocispec.Platform) (*Image, error) {
	img, err := s.Get(ctx, ref)
	if err != nil || platform == nil {
		return img, err
	}
	variant := preferred(img.variants, platforms.OnlyStrict(*platform))
	if variant == nil {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s)",
			ref, platforms.FormatAll(*platform)))
	}
	return img.as(variant), nil
}

// as is the image with the content of one of its variants.
func (i *Image) as(variant *Image) *Image {
	out := *variant
	out.Names, out.variants = i.Names, i.variants
	return &out
}

// IDs lists the image's IDs: one for each platform that the node has it for.
func (i *Image) IDs() []string {
	var ids []string
	for _, v := range i.variants {
		if !slices.Contains(ids, v.ID) {
			ids = append(ids, v.ID)
		}
	}
	return ids
}
