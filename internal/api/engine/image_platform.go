package engine

import (
	"encoding/json"
	"net/http"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/api/server"
)

// platformParam reads the platform that a request is for, in JSON; nil if it names none.
func platformParam(r *http.Request) (*ocispec.Platform, error) {
	if err := r.ParseForm(); err != nil {
		return nil, server.BadRequest("%v", err)
	}
	switch given := r.Form["platform"]; {
	case len(given) > 1:
		return nil, server.BadRequest("multiple platform parameters not supported")
	case len(given) == 0 || given[0] == "":
		return nil, nil
	default:
		return decodePlatform(given[0])
	}
}

func decodePlatform(text string) (*ocispec.Platform, error) {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, server.BadRequest("failed to parse platform: %v", err)
	}
	if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
		return nil, server.BadRequest("optional platform fields provided, but OS and Architecture are missing")
	}
	if p.OS == "" || p.Architecture == "" {
		return nil, server.BadRequest("both OS and Architecture must be provided")
	}
	return &p, nil
}

// platformText reads the platform that a request is for, in words ("linux/arm64"); nil if it names none.
func platformText(r *http.Request) (*ocispec.Platform, error) {
	text := r.FormValue("platform")
	if text == "" {
		return nil, nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, server.BadRequest("%v", err)
	}
	return &p, nil
}
