// Package image keeps the node's images: it pulls, pushes, loads, saves, tags and removes them, and unpacks them for
// containers. It reads registries and archives; it writes containerd's content, image and snapshot stores, and events.
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Config is what a Store needs. All fields but Users and Room are required.
type Config struct {
	Log    *slog.Logger
	Client *client.Client // of containerd
	Events *events.Bus
	// Registries is where images are pulled from and pushed to.
	Registries *registry.Client
	// Users returns what uses images: a container once for its own image, and once for each that is mounted in it; if it is nil, no image counts
	// as used.
	Users func() []User
	// Room is an error if there is no room for so many bytes more of images; if it is nil, there always is room.
	Room func(bytes int64) error
}

// User is a container's use of an image.
type User struct {
	Container string // its ID
	Image     string // as the user named it
	ImageID   string
	Running   bool
}

// Store keeps the node's images. Its methods are safe for concurrent use. A method that takes a ref accepts a name, a digest
// reference, an ID or a unique prefix of an ID, unless it says otherwise, and fails with NotFound when no image has it.
type Store struct {
	Config
	mu       sync.Mutex               // guards the caches below
	parsed   map[digest.Digest]*Image // by Image.Target; without Names, which change
	unpacked map[digest.Digest]bool   // by Image.Target: the layers are known to be snapshots
}

// New returns a Store over the images that containerd has.
func New(c Config) *Store {
	return &Store{Config: c, parsed: map[digest.Digest]*Image{}, unpacked: map[digest.Digest]bool{}}
}

// Image is an image, for this node's platform unless there is only one for another. Callers must not change it: it is shared.
type Image struct {
	ID      string                    // the digest of its configuration, "sha256:…"
	Target  ocispec.Descriptor        // what its names refer to: a manifest, or an index of manifests for several platforms
	Names   []string                  // full references ("docker.io/library/nginx:latest") in containerd's order; empty if it is dangling
	Spec    dockerspec.DockerOCIImage // its configuration
	Size    int64                     // bytes of the compressed layers and the configuration
	layers  []int64                   // bytes of each compressed layer
	ChainID string                    // the digest of all layers together: the key of the snapshot on which containers' snapshots are made
	foreign bool                      // the node has it for another platform only
}

// danglingPrefix starts the names under which containerd stores images that have no name of the user's. Without a name, its garbage
// collector would remove them.
const danglingPrefix = "dangling@"

// RepoTags returns the familiar tagged names ("nginx:latest"), empty but not nil if there are none.
func (i *Image) RepoTags() []string {
	tags := []string{}
	for _, n := range i.Names {
		if ref, err := reference.ParseNormalizedNamed(n); err == nil {
			if _, digested := ref.(reference.Digested); !digested {
				tags = append(tags, reference.FamiliarString(ref))
			}
		}
	}
	return tags
}

// RepoDigests returns the familiar names with the image's digest ("nginx@sha256:…"), empty but not nil if there are none.
func (i *Image) RepoDigests() []string {
	digests := []string{}
	for _, n := range i.Names {
		if ref, err := reference.ParseNormalizedNamed(n); err == nil {
			d := reference.FamiliarName(ref) + "@" + i.Target.Digest.String()
			if !slices.Contains(digests, d) {
				digests = append(digests, d)
			}
		}
	}
	return digests
}

// parse returns the image that a record of containerd refers to, without its names. It reads the manifest and the configuration once for
// each target. A target without content for any platform is a not found error.
func (s *Store) parse(ctx context.Context, record images.Image) (*Image, error) {
	s.mu.Lock()
	cached := s.parsed[record.Target.Digest]
	s.mu.Unlock()
	if cached != nil {
		return cached, nil
	}
	store := s.Client.ContentStore()
	manifest, foreign, err := s.manifest(ctx, record.Target)
	if err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", record.Name, err)
	}
	data, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return nil, fmt.Errorf("read configuration of %s: %w", record.Name, err)
	}
	img := &Image{ID: manifest.Config.Digest.String(), Target: record.Target, Size: manifest.Config.Size, foreign: foreign}
	if err := json.Unmarshal(data, &img.Spec); err != nil {
		return nil, fmt.Errorf("read configuration of %s: %w", record.Name, err)
	}
	for _, layer := range manifest.Layers {
		img.Size += layer.Size
		img.layers = append(img.layers, layer.Size)
	}
	img.ChainID = identity.ChainID(img.Spec.RootFS.DiffIDs).String()
	s.mu.Lock()
	s.parsed[record.Target.Digest] = img
	s.mu.Unlock()
	return img, nil
}

// manifest reads the manifest for this node's platform, or the first for another of which there is content.
func (s *Store) manifest(ctx context.Context, target ocispec.Descriptor) (found ocispec.Manifest, foreign bool, err error) {
	store := s.Client.ContentStore()
	found, err = images.Manifest(ctx, store, target, platforms.Default())
	if !errdefs.IsNotFound(err) || !images.IsIndexType(target.MediaType) {
		return found, false, err
	}
	children, childErr := images.Children(ctx, store, target)
	if childErr != nil {
		return found, false, err
	}
	for _, child := range children {
		if child.Platform != nil && child.Platform.OS == "unknown" { // what the builder attests of another
			continue
		}
		if manifest, childErr := images.Manifest(ctx, store, child, nil); childErr == nil {
			return manifest, true, nil
		}
	}
	return found, false, err
}

// Unpack makes sure that the image's layers exist as snapshots, so that a container's snapshot can be made on that of ChainID.
func (s *Store) Unpack(ctx context.Context, img *Image) error {
	s.mu.Lock()
	done := s.unpacked[img.Target.Digest]
	s.mu.Unlock()
	if done {
		return nil
	}
	if err := s.room(img.Size); err != nil {
		return fmt.Errorf("unpack image %s: %w", img.ID, err)
	}
	ctx = runtime.WithNamespace(ctx)
	record := images.Image{Name: img.ID, Target: img.Target}
	platform := platforms.Default()
	if img.foreign {
		platform = platforms.OnlyStrict(img.Spec.Platform)
	}
	if err := client.NewImageWithPlatform(s.Client, record, platform).Unpack(ctx, runtime.Snapshotter); err != nil {
		return fmt.Errorf("unpack image %s: %w", img.ID, err)
	}
	s.mu.Lock()
	s.unpacked[img.Target.Digest] = true
	s.mu.Unlock()
	return nil
}

// evict removes an image from the caches, after its content may have been deleted.
func (s *Store) evict(target digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parsed, target)
	delete(s.unpacked, target)
}

// publish publishes an event about an image; an empty name stands for the ID.
func (s *Store) publish(action, id, name string) {
	if name == "" {
		name = id
	}
	s.Events.Publish(events.Event{Type: "image", Action: action, ID: id, Attributes: map[string]string{"name": name}})
}
