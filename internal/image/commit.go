package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Commit is an image to make from a container.
type Commit struct {
	Snapshot  string                          // the key of the container's snapshot, which is its ID
	Parent    *Image                          // the container's image
	Config    dockerspec.DockerOCIImageConfig // of the new image
	Ref       string                          // the new image's name; empty for none
	Author    string
	Message   string // the comment in the image's history
	CreatedBy string // the container's command
}

// Commit makes an image of the parent's layers and one more with the changes in the snapshot. A malformed name is an invalid argument.
func (s *Store) Commit(ctx context.Context, c Commit) (*Image, error) {
	if err := s.room(0); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	name := ""
	if c.Ref != "" {
		named, err := normalize(c.Ref)
		if err != nil {
			return nil, err
		}
		name = named.String()
	}
	ctx, done, err := s.Client.WithLease(runtime.WithNamespace(ctx)) // keeps the new content until the image refers to it
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	defer func() { _ = done(ctx) }() // if this fails, the lease expires by itself
	layer, err := rootfs.CreateDiff(ctx, c.Snapshot, s.Client.SnapshotService(runtime.Snapshotter), s.Client.DiffService())
	if err != nil {
		return nil, fmt.Errorf("commit: compare layers: %w", err)
	}
	target, err := s.writeCommit(ctx, c, layer)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if name == "" {
		name = danglingPrefix + target.Digest.String()
	}
	record := images.Image{Name: name, Target: target}
	if err := s.putRecord(ctx, record); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	img, err := s.parse(ctx, record)
	if err != nil {
		return nil, err
	}
	s.publish("create", img.ID, "")
	if c.Ref != "" {
		s.publish("tag", img.ID, c.Ref)
	}
	return img, s.Unpack(ctx, img)
}

// writeCommit writes the configuration and the manifest of the new image.
func (s *Store) writeCommit(ctx context.Context, c Commit, layer ocispec.Descriptor) (ocispec.Descriptor, error) {
	store := s.Client.ContentStore()
	manifest, err := images.Manifest(ctx, store, c.Parent.Manifest, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	diffID, err := images.GetDiffID(ctx, store, layer)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	now := time.Now().UTC()
	spec := c.Parent.Spec.Image
	spec.Created, spec.Author = &now, c.Author
	spec.RootFS.DiffIDs = append(slices.Clip(spec.RootFS.DiffIDs), diffID)
	spec.History = append(slices.Clip(spec.History),
		ocispec.History{Created: &now, CreatedBy: c.CreatedBy, Author: c.Author, Comment: c.Message})
	configuration := struct { // the parent's, with another Config
		ocispec.Image
		Config dockerspec.DockerOCIImageConfig `json:"config"`
	}{spec, c.Config}
	config, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, configuration, map[string]string{
		"containerd.io/gc.ref.snapshot." + runtime.Snapshotter: identity.ChainID(spec.RootFS.DiffIDs).String(),
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layers := append(slices.Clip(manifest.Layers), layer)
	references := map[string]string{"containerd.io/gc.ref.content.0": config.Digest.String()}
	for i, l := range layers {
		references[fmt.Sprintf("containerd.io/gc.ref.content.%d", i+1)] = l.Digest.String()
	}
	return s.writeJSON(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	}, references)
}

// writeJSON stores a configuration or manifest; labels name the content that it keeps from the garbage collector.
func (s *Store) writeJSON(ctx context.Context, mediaType string, value any, labels map[string]string) (ocispec.Descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	err = content.WriteBlob(ctx, s.Client.ContentStore(), d.Digest.String(), bytes.NewReader(data), d, content.WithLabels(labels))
	return d, err
}
