package engine

import (
	"encoding/json"
	"net/http"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/image"
)

// readPlatforms reads a parameter whose values are platforms in JSON; none if it is not given.
func readPlatforms(r *http.Request, name string) ([]ocispec.Platform, error) {
	if err := r.ParseForm(); err != nil {
		return nil, server.BadRequest("%v", err)
	}
	var out []ocispec.Platform
	for _, text := range r.Form[name] {
		if text == "" {
			continue
		}
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, server.BadRequest("failed to parse platform: %v", err)
		}
		switch optional := p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0; {
		case p.OS == "" && p.Architecture == "" && optional:
			return nil, server.BadRequest("optional platform fields provided, but OS and Architecture are missing")
		case p.OS == "" || p.Architecture == "":
			return nil, server.BadRequest("both OS and Architecture must be provided")
		}
		out = append(out, p)
	}
	return out, nil
}

// ofPlatform refuses a platform that an image is not of. An image is of one platform here, that of the node or else the one that there is.
func ofPlatform(r *http.Request, ref string, img *image.Image) error {
	wanted, err := readPlatforms(r, "platform")
	if err != nil {
		return err
	}
	has := platforms.Normalize(platforms.Platform{OS: img.Spec.OS, Architecture: img.Spec.Architecture, Variant: img.Spec.Variant})
	for _, want := range wanted {
		if !platforms.Only(want).Match(has) {
			return server.Errorf(http.StatusNotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
				ref, platforms.FormatAll(has), platforms.FormatAll(want))
		}
	}
	return nil
}

// noPlatforms refuses to do something to one platform of an image only.
func noPlatforms(r *http.Request, name, what string) error {
	wanted, err := readPlatforms(r, name)
	if err == nil && len(wanted) > 0 {
		err = server.Errorf(http.StatusNotImplemented, "%s of one platform of an image: not supported by this engine", what)
	}
	return err
}
