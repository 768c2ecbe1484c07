package registrytest

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// RandomIndex is an image of random content for several architectures of Linux.
func RandomIndex(t testing.TB, architectures ...string) v1.ImageIndex {
	t.Helper()
	const size, layers = 1024, 2
	index := v1.ImageIndex(empty.Index)
	for _, arch := range architectures {
		img, err := random.Image(size, layers)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config.OS, config.Architecture = "linux", arch
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return index
}

// Target is what a name in the registry refers to.
func Target(t testing.TB, s *Server, ref string) v1.Descriptor {
	t.Helper()
	found, err := remote.Get(s.tag(t, ref), s.access()...)
	if err != nil {
		t.Fatal(err)
	}
	return found.Descriptor
}
