// Package image keeps the node's images: it pulls, pushes, loads, saves, tags and removes them, and unpacks them for
// containers. It reads registries and archives; it writes containerd's content, image and snapshot stores, and events.
package image

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
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
	unpacked map[string]bool          // by Image.ChainID: the layers are known to be snapshots
	limits
}

// New returns a Store over the images that containerd has.
func New(c Config) *Store {
	return &Store{Config: c, parsed: map[digest.Digest]*Image{}, unpacked: map[string]bool{}, limits: limits{retryAfter: retryAfter}}
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
	// Manifest is what of Target is for this platform.
	Manifest ocispec.Descriptor
	variants []*Image // for each platform that there is content for
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
	variants, err := s.variants(ctx, record.Target)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", record.Name, err)
	}
	if len(variants) == 0 {
		return nil, fmt.Errorf("read %s: no content of %s: %w", record.Name, record.Target.Digest, errdefs.ErrNotFound)
	}
	best := preferred(variants, platforms.Default())
	if best == nil {
		best = variants[0]
	}
	img := *best
	img.variants = variants
	s.mu.Lock()
	s.parsed[record.Target.Digest] = &img
	s.mu.Unlock()
	return &img, nil
}

// Unpack makes sure that the image's layers exist as snapshots, so that a container's snapshot can be made on that of ChainID.
func (s *Store) Unpack(ctx context.Context, img *Image) error {
	s.mu.Lock()
	done := s.unpacked[img.ChainID]
	s.mu.Unlock()
	if done {
		return nil
	}
	if err := s.unpack(runtime.WithNamespace(ctx), img); err != nil {
		return fmt.Errorf("unpack image %s: %w", img.ID, err)
	}
	s.mu.Lock()
	s.unpacked[img.ChainID] = true
	s.mu.Unlock()
	return nil
}

// unpack makes the snapshots that are missing, if the disk has room for them. An image that has them all needs none, which counts where the disk is nearly full.
func (s *Store) unpack(ctx context.Context, img *Image) error {
	image := client.NewImageWithPlatform(s.Client, images.Image{Name: img.ID, Target: img.Manifest}, platforms.All)
	there, err := image.IsUnpacked(ctx, runtime.Snapshotter)
	if err != nil {
		return err
	}
	if !there {
		if err := s.room(img.Size); err != nil {
			return err
		}
	}
	return image.Unpack(ctx, runtime.Snapshotter)
}

// evict removes an image from the caches, after content of it may have come or gone.
func (s *Store) evict(target digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parsed, target)
	clear(s.unpacked) // layers may be those of other images too, and it costs little to look again
}

// publish publishes an event about an image; an empty name stands for the ID.
func (s *Store) publish(action, id, name string) {
	if name == "" {
		name = id
	}
	s.Events.Publish(events.Event{Type: "image", Action: action, ID: id, Attributes: map[string]string{"name": name}})
}
