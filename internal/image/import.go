package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/fault"
)

// Import makes an image of one layer from a tar archive of a file system, which it holds in a temporary file meanwhile. An empty ref leaves the image without a
// name; message is the comment in its history; without a platform it is for the node's. What is not a tar archive is an invalid argument.
func (s *Store) Import(ctx context.Context, r io.Reader, platform *ocispec.Platform, ref, message string, config dockerspec.DockerOCIImageConfig) (*Image, error) {
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
	of := platforms.DefaultSpec()
	if platform != nil {
		of = *platform
	}
	if err := convertConfig(config, &cf.Config); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	cf.OS, cf.Architecture, cf.Variant, cf.Created = of.OS, of.Architecture, of.Variant, now
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
	loaded, err := s.Load(ctx, pr, nil)
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
