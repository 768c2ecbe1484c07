package image

import (
	"context"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Annotations of an index's entries that tell of another entry.
const (
	annotationReferenceType   = "vnd.docker.reference.type"
	annotationReferenceDigest = "vnd.docker.reference.digest"
)

// Manifest is what an image has for one platform, or what is attested of that.
type Manifest struct {
	Descriptor ocispec.Descriptor
	Platform   ocispec.Platform
	ImageID    string        // empty if the configuration is not on the node
	For        digest.Digest // of an attestation: the manifest that it is of
	Available  bool          // all of its content is on the node
	Content    int64         // bytes of its content that are on the node
	Unpacked   int64         // bytes of its layers on the disk, ready for containers
}

// Attestation tells whether the manifest is no image.
func (m *Manifest) Attestation() bool { return isAttestation(m.Descriptor) }

// Manifests lists what the image's names refer to, for all platforms, in the order of its index; also what is not on the node.
func (s *Store) Manifests(ctx context.Context, img *Image) ([]Manifest, error) {
	ctx = runtime.WithNamespace(ctx)
	var all []Manifest
	err := s.eachManifest(ctx, img.Target, func(d ocispec.Descriptor) error {
		m := Manifest{Descriptor: d, For: digest.Digest(d.Annotations[annotationReferenceDigest])}
		if d.Platform != nil {
			m.Platform = *d.Platform
		}
		var err error
		if m.Available, err = s.available(ctx, d); err != nil {
			return err
		}
		if m.Content, err = s.contentSize(ctx, d); err != nil {
			return err
		}
		if !m.Attestation() {
			if variant, err := s.readVariant(ctx, d); err == nil {
				m.ImageID, m.Platform, m.Unpacked = variant.ID, variant.Platform(), s.unpackedSize(ctx, variant)
			}
		}
		all = append(all, m)
		return nil
	})
	return all, err
}

// available tells whether all content of a manifest is on the node.
func (s *Store) available(ctx context.Context, manifest ocispec.Descriptor) (bool, error) {
	complete, _, _, missing, err := images.Check(ctx, s.Client.ContentStore(), manifest, platforms.All)
	return complete && len(missing) == 0, err
}

// contentSize is how many bytes of a descriptor's content are on the node, with what it refers to.
func (s *Store) contentSize(ctx context.Context, root ocispec.Descriptor) (int64, error) {
	var size int64
	store := s.Client.ContentStore()
	err := images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		info, err := store.Info(ctx, d.Digest)
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		size += info.Size
		return images.Children(ctx, store, d)
	}), root)
	return size, err
}

// unpackedSize is how many bytes of an image's layers are on the disk, ready for containers.
func (s *Store) unpackedSize(ctx context.Context, img *Image) int64 {
	var size int64
	for i := range img.Spec.RootFS.DiffIDs {
		chain := identity.ChainID(img.Spec.RootFS.DiffIDs[:i+1]).String()
		if usage, err := s.Client.SnapshotService(runtime.Snapshotter).Usage(ctx, chain); err == nil {
			size += usage.Size
		}
	}
	return size
}
