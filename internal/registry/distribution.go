package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxAnswer is more than a manifest or a page of search results has, in bytes.
const maxAnswer = 8 << 20

// Distribution is what a registry says of an image's name.
type Distribution struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// Describe asks a registry what a name refers to now, and for which platforms. Nothing is stored.
func (c *Client) Describe(ctx context.Context, named reference.Named, auth Auth) (Distribution, error) {
	var found Distribution
	name := reference.TagNameOnly(named).String()
	resolver := c.Resolver(ctx, auth)
	_, target, err := resolver.Resolve(ctx, name)
	if err != nil {
		return found, Failure(named, err)
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return found, Failure(named, err)
	}
	// Of what the registry says of the target, only this is sure of all registries.
	found.Descriptor = ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	if found.Platforms, err = platformsOf(ctx, fetcher, target); err != nil {
		return found, Failure(named, err)
	}
	return found, nil
}

// platformsOf is the platforms that a manifest, or an index of manifests, is for.
func platformsOf(ctx context.Context, fetcher remotes.Fetcher, target ocispec.Descriptor) ([]ocispec.Platform, error) {
	platforms := []ocispec.Platform{}
	switch {
	case images.IsIndexType(target.MediaType):
		var index ocispec.Index
		if err := fetchJSON(ctx, fetcher, target, &index); err != nil {
			return nil, err
		}
		for _, manifest := range index.Manifests {
			if manifest.Platform != nil {
				platforms = append(platforms, *manifest.Platform)
			}
		}
	case images.IsManifestType(target.MediaType):
		var manifest ocispec.Manifest
		if err := fetchJSON(ctx, fetcher, target, &manifest); err != nil {
			return nil, err
		}
		var platform ocispec.Platform
		if err := fetchJSON(ctx, fetcher, manifest.Config, &platform); err != nil {
			return nil, err
		}
		if platform.OS != "" || platform.Architecture != "" {
			platforms = append(platforms, platform)
		}
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage("unsupported manifest format " + target.MediaType)
	}
	return platforms, nil
}

// fetchJSON reads a blob and holds it against its digest: a registry may say anything.
func fetchJSON(ctx context.Context, fetcher remotes.Fetcher, target ocispec.Descriptor, to any) error {
	body, err := fetcher.Fetch(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return err
	}
	if got := target.Digest.Algorithm().FromBytes(data); got != target.Digest {
		return errdefs.ErrDataLoss.WithMessage(fmt.Sprintf("the registry has sent %s for %s", got, target.Digest))
	}
	return json.Unmarshal(data, to)
}

// Failure puts an error of a registry into Docker's words, with its kind. Registries do not say whether a repository is missing or private.
func Failure(named reference.Named, err error) error {
	name := reference.FamiliarString(named)
	var status remoteerrors.ErrUnexpectedStatus
	unauthorized := errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)
	switch {
	case errdefs.IsNotFound(err):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s not found: manifest unknown: manifest unknown", name))
	case unauthorized, errdefs.IsUnauthorized(err), errors.Is(err, docker.ErrInvalidAuthorization), errdefs.IsPermissionDenied(err):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", reference.FamiliarName(named)))
	}
	return fmt.Errorf("get image %s: %w", name, err)
}
