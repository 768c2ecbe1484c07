// Package image keeps the node's images: it pulls, pushes, loads, saves, tags and removes them, and unpacks them for
// containers. It reads registries and archives; it writes containerd's content, image and snapshot stores, and events.
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Config is what a Store needs. All fields but InsecureRegistries and InUse are required.
type Config struct {
	Log      *slog.Logger
	Client   *client.Client // of containerd
	Transfer transfer.Transferrer
	Events   *events.Bus
	// InsecureRegistries are the registries that may be spoken to without TLS: "host", "host:port", addresses and CIDR prefixes.
	InsecureRegistries []string
	// InUse returns the IDs of the containers that use an image; if it is nil, no image counts as used.
	InUse func(imageID string) []string
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

// Image is an image for this node's platform. Callers must not change it: it is shared.
type Image struct {
	ID      string                    // the digest of its configuration, "sha256:…"
	Target  ocispec.Descriptor        // what its names refer to: a manifest, or an index of manifests for several platforms
	Names   []string                  // full references ("docker.io/library/nginx:latest") in containerd's order; empty if it is dangling
	Spec    dockerspec.DockerOCIImage // its configuration
	Size    int64                     // bytes of the compressed layers and the configuration
	ChainID string                    // of all layers: the key of the snapshot that the containers' own snapshots are made on
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

// byDigest finds an image by a prefix of its ID, at least four digits long, or by a reference with a digest; nil if there is none. A
// prefix that fits two images finds none.
func byDigest(all []*Image, ref string) *Image {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		if d, ok := named.(reference.Digested); ok {
			for _, img := range all {
				if img.Target.Digest == d.Digest() {
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
		if strings.HasPrefix(strings.TrimPrefix(img.ID, "sha256:"), prefix) {
			if found != nil {
				return nil
			}
			found = img
		}
	}
	return found
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

// List returns the images that this node's platform can run, newest first. Images whose content is incomplete are left out.
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
			s.Log.Debug("image has no usable content for this platform and is not listed", "image", r.Name, "err", err)
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
	slices.SortStableFunc(all, func(a, b *Image) int { return createdAt(b).Compare(createdAt(a)) })
	return all, nil
}

// createdAt is when an image was made, by its configuration; the zero time if that does not say.
func createdAt(i *Image) time.Time {
	if i.Spec.Created == nil {
		return time.Time{}
	}
	return *i.Spec.Created
}

// parse returns the image that a record of containerd refers to, without its names. It reads the manifest and the configuration once for
// each target. A target without content for this platform is a not found error.
func (s *Store) parse(ctx context.Context, record images.Image) (*Image, error) {
	s.mu.Lock()
	cached := s.parsed[record.Target.Digest]
	s.mu.Unlock()
	if cached != nil {
		return cached, nil
	}
	store := s.Client.ContentStore()
	manifest, err := images.Manifest(ctx, store, record.Target, platforms.Default())
	if err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", record.Name, err)
	}
	data, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return nil, fmt.Errorf("read configuration of %s: %w", record.Name, err)
	}
	img := &Image{ID: manifest.Config.Digest.String(), Target: record.Target, Size: manifest.Config.Size}
	if err := json.Unmarshal(data, &img.Spec); err != nil {
		return nil, fmt.Errorf("read configuration of %s: %w", record.Name, err)
	}
	for _, layer := range manifest.Layers {
		img.Size += layer.Size
	}
	img.ChainID = identity.ChainID(img.Spec.RootFS.DiffIDs).String()
	s.mu.Lock()
	s.parsed[record.Target.Digest] = img
	s.mu.Unlock()
	return img, nil
}

// Unpack makes sure that the image's layers exist as snapshots, so that a container's snapshot can be made on that of ChainID.
func (s *Store) Unpack(ctx context.Context, img *Image) error {
	s.mu.Lock()
	done := s.unpacked[img.Target.Digest]
	s.mu.Unlock()
	if done {
		return nil
	}
	ctx = runtime.WithNamespace(ctx)
	record := images.Image{Name: img.ID, Target: img.Target}
	if err := client.NewImage(s.Client, record).Unpack(ctx, runtime.Snapshotter); err != nil {
		return fmt.Errorf("unpack image %s: %w", img.ID, err)
	}
	s.mu.Lock()
	s.unpacked[img.Target.Digest] = true
	s.mu.Unlock()
	return nil
}

// normalize reads a reference as Docker does: "nginx" is docker.io/library/nginx:latest.
func normalize(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid reference format: %w", errdefs.ErrInvalidArgument)
	}
	return named, nil
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
