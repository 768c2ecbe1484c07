package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Load stores and unpacks the images of a Docker or OCI archive, compressed or not, and returns them. Content for
// other platforms than the node's may be missing from it. After an error, the images before the one that failed are stored.
func (s *Store) Load(ctx context.Context, r io.Reader) ([]*Image, error) {
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
	var loaded []*Image
	for _, record := range records {
		parsed, err := s.parse(ctx, record)
		if err != nil {
			return nil, err
		}
		img := *parsed
		if !strings.HasPrefix(record.Name, danglingPrefix) {
			img.Names = []string{record.Name}
		}
		if err := s.Unpack(ctx, &img); err != nil {
			return nil, err
		}
		loaded = append(loaded, &img)
		s.publish("load", img.ID, strings.Join(img.RepoTags(), " "))
	}
	return loaded, nil
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

// Save writes images as one archive, which Docker and OCI tools read. Each has the name it was asked for by, none if it was asked for by
// its ID. After an error, w may have part of the archive.
func (s *Store) Save(ctx context.Context, refs []string, w io.Writer) error {
	ctx = runtime.WithNamespace(ctx)
	saved := make([]*Image, 0, len(refs))
	opts := []archive.ExportOpt{archive.WithPlatform(platforms.Default()), archive.WithSkipMissing(s.Client.ContentStore())}
	for _, ref := range refs {
		img, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		names := []string{}
		if named, err := normalize(ref); err == nil {
			if _, err := s.Client.ImageService().Get(ctx, named.String()); err == nil {
				names = append(names, named.String())
			}
		}
		saved = append(saved, img)
		opts = append(opts, archive.WithManifest(img.Target, names...))
	}
	if err := s.Client.Export(ctx, w, opts...); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	for _, img := range saved {
		s.publish("save", img.ID, "")
	}
	return nil
}

// Import makes an image of one layer, for a platform, from a tar archive of a file system, which it holds in a temporary file meanwhile. An empty ref leaves
// the image without a name; message is the comment in its history. What is not a tar archive is an invalid argument.
func (s *Store) Import(ctx context.Context, r io.Reader, ref, message string, config dockerspec.DockerOCIImageConfig, platform platforms.Platform) (*Image, error) {
	file, err := os.CreateTemp("", "shoal-import-*")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := io.Copy(file, r); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	layer, err := tarball.LayerFromFile(file.Name())
	if err != nil {
		return nil, fmt.Errorf("Error processing tar file: %w", invalidArgument(err)) //nolint:staticcheck // Docker's wording
	}
	now := v1.Time{Time: time.Now().UTC()}
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: layer, History: v1.History{Created: now, Comment: message}})
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	cf = cf.DeepCopy()
	if err := convertConfig(config, &cf.Config); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	cf.OS, cf.Architecture, cf.Variant, cf.Created = platform.OS, platform.Architecture, platform.Variant, now
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return s.add(ctx, img, ref)
}

// convertConfig converts a configuration to the type that archives are written from, which has no interval of health checks while a container starts.
func convertConfig(from dockerspec.DockerOCIImageConfig, to *v1.Config) error {
	if h := from.Healthcheck; h != nil && h.StartInterval != 0 {
		return errdefs.ErrNotImplemented.WithMessage("HEALTHCHECK --start-interval of an imported image: not supported by this engine")
	}
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// add stores an image that was made in memory, and gives it a name unless ref is empty.
func (s *Store) add(ctx context.Context, img v1.Image, ref string) (*Image, error) {
	var tag name.Reference
	if ref == "" { // an archive has no tag for a reference that is a digest
		d, err := img.Digest()
		if err != nil {
			return nil, err
		}
		tag, err = name.NewDigest("none@" + d.String())
		if err != nil {
			return nil, err
		}
	} else {
		named, err := normalize(ref)
		if err != nil {
			return nil, err
		}
		if tag, err = name.NewTag(named.String()); err != nil {
			return nil, invalidArgument(err)
		}
	}
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(fault.Contain(s.Log, "import of an image", func() error { return tarball.Write(tag, img, pw) }))
	}()
	loaded, err := s.Load(ctx, pr)
	_ = pr.Close()
	if err != nil {
		return nil, err
	}
	if len(loaded) == 0 {
		return nil, fmt.Errorf("archive holds no image: %w", errdefs.ErrInvalidArgument)
	}
	s.publish("import", loaded[0].ID, ref)
	return loaded[0], nil
}

// invalidArgument gives an error the kind of an invalid argument and keeps its text.
func invalidArgument(err error) error { return errdefs.ErrInvalidArgument.WithMessage(err.Error()) }
