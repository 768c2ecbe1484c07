package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/registry/registrytest"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// platformArchive is an OCI archive of one image for several platforms, which is called name, and the digests of its manifests.
func platformArchive(t *testing.T, name string, architectures ...string) (archive *bytes.Buffer, manifests []digest.Digest) {
	t.Helper()
	index := registrytest.RandomIndex(t, architectures...)
	contents, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range contents.Manifests {
		manifests = append(manifests, digest.Digest(m.Digest.String()))
	}
	dir := t.TempDir()
	at, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = at.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name}))
	}
	if err != nil {
		t.Fatal(err)
	}
	archive = &bytes.Buffer{}
	w := tar.NewWriter(archive)
	if err := w.AddFS(os.DirFS(filepath.Clean(dir))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive, manifests
}

// collectGarbage returns when containerd has removed what nothing refers to.
func collectGarbage(t *testing.T, s *Store) {
	t.Helper()
	ctx := runtime.WithNamespace(t.Context())
	lease, err := s.Client.LeasesService().Create(ctx, leases.WithRandomID())
	if err == nil {
		err = s.Client.LeasesService().Delete(ctx, lease, leases.SynchronousDelete)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// has reports whether the content is there.
func has(t *testing.T, s *Store, d digest.Digest) bool {
	t.Helper()
	_, err := s.Client.ContentStore().Info(runtime.WithNamespace(t.Context()), d)
	return err == nil
}

// The garbage collector took what an archive had for other platforms, so that the image could neither be pushed nor loaded again.
func TestContentOfOtherPlatformsIsKept(t *testing.T) {
	s := newStore(t)
	archive, manifests := platformArchive(t, "docker.io/library/many:1", "amd64", "arm64", "s390x")
	if _, err := s.Load(t.Context(), archive, nil); err != nil {
		t.Fatal(err)
	}
	collectGarbage(t, s)
	for _, m := range manifests {
		if !has(t, s, m) {
			t.Errorf("%s is gone", m)
		}
	}
	if _, err := s.Remove(t.Context(), "many:1", false); err != nil {
		t.Fatal(err)
	}
	collectGarbage(t, s)
	for _, m := range manifests {
		if has(t, s, m) {
			t.Errorf("%s is there after the image was removed", m)
		}
	}
}

// An image that was there for another platform only was invisible, and its archive refused.
func TestAnImageForAnotherPlatformIsListed(t *testing.T) {
	s := newStore(t)
	archive, _ := platformArchive(t, "docker.io/library/far:1", "s390x")
	loaded, err := s.Load(t.Context(), archive, nil)
	if err != nil || len(loaded) != 1 || loaded[0].Spec.Architecture != "s390x" {
		t.Fatalf("%v, %v", loaded, err)
	}
	if img, err := s.Get(t.Context(), "far:1"); err != nil || img.Spec.Architecture != "s390x" {
		t.Errorf("%v, %v", img, err)
	}
}

// An archive that takes a name from an image made that image vanish.
func TestAReplacedImageIsKeptWithoutAName(t *testing.T) {
	s := newStore(t)
	first, manifests := platformArchive(t, "docker.io/library/many:1", "amd64", "arm64")
	second, _ := platformArchive(t, "docker.io/library/many:1", "amd64")
	old, err := s.Load(t.Context(), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Load(t.Context(), second, nil)
	if err != nil {
		t.Fatal(err)
	}
	collectGarbage(t, s)
	img, err := s.Get(t.Context(), old[0].ID)
	if err != nil || len(img.Names) != 0 || !has(t, s, manifests[1]) {
		t.Fatalf("the old image: %+v, %v", img, err)
	}
	if err := s.Tag(t.Context(), old[0].ID, "many:1"); err != nil { // the other way round
		t.Fatal(err)
	}
	collectGarbage(t, s)
	if img, err := s.Get(t.Context(), again[0].ID); err != nil || len(img.Names) != 0 {
		t.Errorf("the new image: %+v, %v", img, err)
	}
	if _, err := s.Remove(t.Context(), "many:1", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), old[0].ID); err == nil {
		t.Error("an image that got a name again stays after that is removed")
	}
}

// An archive that was loaded for one platform brought the content for all; and what was there for another went when containerd numbered its labels anew.
func TestALoadForOnePlatformKeepsThoseThatWereThere(t *testing.T) {
	s := newStore(t)
	archive, manifests := platformArchive(t, "docker.io/library/many:1", "amd64", "arm64", "s390x")
	content := archive.Bytes()
	for _, step := range []struct {
		arch string
		want []bool
	}{{"arm64", []bool{false, true, false}}, {"amd64", []bool{true, true, false}}, {"arm64", []bool{true, true, false}}} {
		loaded, err := s.Load(t.Context(), bytes.NewReader(content), &ocispec.Platform{OS: "linux", Architecture: step.arch})
		if err != nil || len(loaded) != 1 || loaded[0].Spec.Architecture != step.arch {
			t.Fatalf("%v, %v", loaded, err)
		}
		collectGarbage(t, s)
		for i, m := range manifests {
			if has(t, s, m) != step.want[i] {
				t.Errorf("after a load for %s the content of %d is there: %t", step.arch, i, !step.want[i])
			}
		}
	}
}
