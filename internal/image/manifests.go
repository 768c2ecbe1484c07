package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Manifest is one of the manifests that an image's names refer to: an image for a platform, or what its builder attests of one.
type Manifest struct {
	Descriptor ocispec.Descriptor
	Platform   ocispec.Platform // of an image, as far as it is known
	Attests    digest.Digest    // the manifest that it is about; "" for an image
	Content    int64            // bytes of it that are on the node, compressed
	Available  bool             // all of it is on the node
}

// The annotations of an index by which builders mark what they attest.
const (
	attestationType    = "vnd.docker.reference.type"
	attestationSubject = "vnd.docker.reference.digest"
)

// Manifests lists the manifests of an image, also those of which nothing is on the node.
func (s *Store) Manifests(ctx context.Context, img *Image) ([]Manifest, error) {
	ctx = runtime.WithNamespace(ctx)
	targets := []ocispec.Descriptor{img.Target}
	if images.IsIndexType(img.Target.MediaType) {
		var err error
		if targets, err = images.Children(ctx, s.Client.ContentStore(), img.Target); err != nil {
			return nil, fmt.Errorf("read index of %s: %w", img.ID, err)
		}
	}
	var out []Manifest
	for _, target := range targets {
		m, err := s.describe(ctx, target)
		if err != nil {
			return nil, fmt.Errorf("read manifest %s of %s: %w", target.Digest, img.ID, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// describe reads a manifest and counts what there is of it.
func (s *Store) describe(ctx context.Context, target ocispec.Descriptor) (Manifest, error) {
	m := Manifest{Descriptor: target}
	if target.Platform != nil {
		m.Platform = *target.Platform
	}
	if target.Annotations[attestationType] != "" {
		m.Attests = digest.Digest(target.Annotations[attestationSubject])
	}
	store := s.Client.ContentStore()
	data, err := content.ReadBlob(ctx, store, target)
	if errdefs.IsNotFound(err) {
		return m, nil
	}
	var manifest ocispec.Manifest
	if err == nil {
		err = json.Unmarshal(data, &manifest)
	}
	if err != nil {
		return m, err
	}
	m.Content, m.Available = target.Size, true
	for _, part := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
		if _, err := store.Info(ctx, part.Digest); err != nil {
			m.Available = false
			continue
		}
		m.Content += part.Size
	}
	if config, err := content.ReadBlob(ctx, store, manifest.Config); err == nil && m.Attests == "" && target.Platform == nil {
		_ = json.Unmarshal(config, &m.Platform) // without one, the platform is not known
	}
	return m, nil
}
