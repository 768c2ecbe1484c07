package engine

import (
	"context"
	"net/http"

	apiimage "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/image"
)

// manifests lists what an image has for each platform.
func (a *images) manifests(ctx context.Context, img *image.Image) ([]apiimage.ManifestSummary, error) {
	all, err := a.store.Manifests(ctx, img)
	if err != nil {
		return nil, err
	}
	out := make([]apiimage.ManifestSummary, 0, len(all))
	for _, m := range all {
		out = append(out, a.toAPIManifest(&m))
	}
	return out, nil
}

func (a *images) toAPIManifest(m *image.Manifest) apiimage.ManifestSummary {
	s := apiimage.ManifestSummary{ID: m.Descriptor.Digest.String(), Descriptor: m.Descriptor, Available: m.Available, Kind: apiimage.ManifestKindUnknown}
	s.Size.Content, s.Size.Total = m.Content, m.Content+m.Unpacked
	switch {
	case m.Attestation() && m.For != "":
		s.Kind, s.AttestationData = apiimage.ManifestKindAttestation, &apiimage.AttestationProperties{For: m.For}
	case !m.Attestation():
		s.Kind, s.ImageData = apiimage.ManifestKindImage, &apiimage.ImageProperties{Platform: m.Platform, Containers: []string{}}
		s.ImageData.Size.Unpacked = m.Unpacked
		if m.ImageID != "" {
			s.ImageData.Containers = append(s.ImageData.Containers, a.usedBy(m.ImageID)...)
		}
	}
	return s
}

// sharedSizes is how many bytes of images' layers belong to others too, by the images' IDs.
func (a *images) sharedSizes(ctx context.Context, all []*image.Image) map[string]int64 {
	l := layersOf(ctx, a.store, all)
	shared := map[string]int64{}
	for id, chain := range l.chains {
		shared[id] = 0
		for i, size := range chain.sizes {
			if l.images[chain.ids[i]] > 1 {
				shared[id] += size
			}
		}
	}
	return shared
}

// removePlatforms removes what an image is for some platforms.
func (a *images) removePlatforms(r *http.Request, name string, given []string, force bool) ([]image.Removed, error) {
	if !force {
		return nil, server.BadRequest("Content will be removed from all images referencing this variant. Use —-force to force delete.")
	}
	var platforms []ocispec.Platform
	for _, text := range given {
		p, err := decodePlatform(text)
		if err != nil {
			return nil, err
		}
		platforms = append(platforms, *p)
	}
	return a.store.RemovePlatforms(r.Context(), name, platforms)
}
