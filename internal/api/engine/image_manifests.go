package engine

import (
	"context"
	"net/http"
	"slices"

	apiimage "github.com/moby/moby/api/types/image"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/image"
)

// summaries returns how a list shows an image: with what of it others have too, and with its manifests, if the request asks for these.
func (a *images) summaries(r *http.Request, all []*image.Image) (func(*image.Image) apiimage.Summary, error) {
	var shared map[string]int64
	if server.BoolParam(r, "shared-size") {
		shared = a.sharedSizes(r.Context(), all)
	}
	manifests := map[string][]apiimage.ManifestSummary{}
	if server.BoolParam(r, "manifests") {
		for _, img := range all {
			found, err := a.toAPIManifests(r.Context(), img)
			if err != nil {
				return nil, err
			}
			manifests[img.ID] = found
		}
	}
	return func(img *image.Image) apiimage.Summary {
		s := a.toAPISummary(img)
		s.Manifests = manifests[img.ID]
		if shared != nil {
			s.SharedSize = shared[img.ID]
		}
		return s
	}, nil
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

// toAPIManifests shows the manifests of an image. The one that the node uses has the image's containers and the size of its layers.
func (a *images) toAPIManifests(ctx context.Context, img *image.Image) ([]apiimage.ManifestSummary, error) {
	found, err := a.store.Manifests(ctx, img)
	if err != nil {
		return nil, err
	}
	used := false
	out := []apiimage.ManifestSummary{}
	for _, m := range found {
		s := apiimage.ManifestSummary{ID: m.Descriptor.Digest.String(), Descriptor: m.Descriptor, Available: m.Available, Kind: apiimage.ManifestKindImage}
		s.Size.Content, s.Size.Total = m.Content, m.Content
		if m.Attests != "" {
			s.Kind, s.AttestationData = apiimage.ManifestKindAttestation, &apiimage.AttestationProperties{For: m.Attests}
			out = append(out, s)
			continue
		}
		s.ImageData = &apiimage.ImageProperties{Platform: m.Platform, Containers: []string{}}
		if !used && m.Available && m.Platform.OS == img.Spec.OS && m.Platform.Architecture == img.Spec.Architecture {
			used = true
			for _, size := range a.store.LayerSizes(ctx, img) {
				s.ImageData.Size.Unpacked += size
			}
			s.Size.Total += s.ImageData.Size.Unpacked
			s.ImageData.Containers = append(s.ImageData.Containers, slices.Sorted(slices.Values(a.usedBy(img.ID)))...)
		}
		out = append(out, s)
	}
	return out, nil
}
