package server

import (
	"regexp"

	"github.com/moby/moby/client/pkg/versions"
)

const (
	// MaxVersion is the newest API version that is spoken; a request without a version is of this one.
	MaxVersion = "1.51"
	// MinVersion is the oldest API version that is spoken.
	MinVersion = "1.40"
)

// versionPrefix is the API version that a path may start with.
var versionPrefix = regexp.MustCompile(`^/v(\d+\.\d+)(/.*)$`)

// SplitVersion takes the API version off a path: "/v1.51/info" is "1.51" and "/info". The version is empty if the path names
// none.
func SplitVersion(path string) (version, rest string) {
	if m := versionPrefix.FindStringSubmatch(path); m != nil {
		return m[1], m[2]
	}
	return "", path
}

// checkVersion refuses versions that are too old, or newer than this engine.
func checkVersion(version string) error {
	switch {
	case versions.LessThan(version, MinVersion):
		return BadRequest("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, MinVersion)
	case versions.GreaterThan(version, MaxVersion):
		return BadRequest("client version %s is too new. Maximum supported API version is %s", version, MaxVersion)
	}
	return nil
}
