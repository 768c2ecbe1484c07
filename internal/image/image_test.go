package image

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/shoal-dev/shoal/internal/registry/registrytest"

	testregistry "github.com/google/go-containerregistry/pkg/registry"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/test/images"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	return newStoreIn(t, t.TempDir())
}

func newStoreIn(t *testing.T, dir string) *Store {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	rt, err := runtime.Start(context.Background(), runtime.Config{Log: log, Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(Config{Log: log, Client: rt.Client, Events: &events.Bus{}, Registries: registry.New(t.TempDir(), registry.Settings{})})
}

func load(t *testing.T, s *Store) *Image {
	t.Helper()
	paths, err := images.Build(t.Context(), images.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(paths["busybox"])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	loaded, err := s.Load(t.Context(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}

func TestNamesAndIDs(t *testing.T) {
	s := newStore(t)
	img := load(t, s)
	for _, ref := range []string{"busybox", "busybox:latest", "library/busybox", "docker.io/library/busybox:latest", img.ID, img.ID[7:19]} {
		got, err := s.Get(t.Context(), ref)
		if err != nil || got.ID != img.ID {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	if _, err := s.Get(t.Context(), "nosuch"); err == nil || err.Error() != "No such image: nosuch:latest" {
		t.Errorf("missing: %v", err)
	}
}

func TestRegistryRoundTrip(t *testing.T) {
	s := newStore(t)
	img := load(t, s)
	server := httptest.NewServer(testregistry.New())
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/team/box:1"
	if err := s.Tag(t.Context(), "busybox", name); err != nil {
		t.Fatal(err)
	}
	if err := s.Push(t.Context(), name, nil, registry.Auth{}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), name, false); err != nil {
		t.Fatal(err)
	}
	var said []string
	pulled, err := s.Pull(t.Context(), name, nil, registry.Auth{}, func(p Progress) { said = append(said, p.Status) })
	if err != nil || pulled.ID != img.ID {
		t.Fatalf("pull: %+v, %v", pulled, err)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "Pulling from team/box") || !strings.Contains(text, "Status: Downloaded newer image for "+name) {
		t.Errorf("progress:\n%s", text)
	}
	_, err = s.Pull(t.Context(), strings.Replace(name, ":1", ":2", 1), nil, registry.Auth{}, nil)
	if err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("missing tag: %v", err)
	}
}

func TestLocalImageNeedsNoRegistry(t *testing.T) {
	s := newStore(t)
	load(t, s)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	name := listener.Addr().String() + "/box:1"
	if err := s.Tag(t.Context(), "busybox", name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Ensure(ctx, name, registry.Auth{}); err != nil {
		t.Error(err)
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	s := newStore(t)
	img := load(t, s)
	var archive bytes.Buffer
	if err := s.Save(t.Context(), []string{"busybox"}, nil, &archive); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "busybox", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "busybox"); err == nil {
		t.Fatal("removed image is still there")
	}
	loaded, err := s.Load(t.Context(), &archive, nil)
	if err != nil || len(loaded) != 1 || loaded[0].ID != img.ID {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}

// What has arrived of a layer before the connection broke is not fetched again.
func TestABrokenPullGoesOnWhereItBroke(t *testing.T) {
	s := newStore(t)
	server := registrytest.New(t, registrytest.Options{})
	layer, err := random.Layer(4<<20, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Upload(t, server, "team/big:1", image)
	server.Break(registrytest.Cut(1 << 20))
	if _, err := s.Pull(t.Context(), server.Addr()+"/team/big:1", nil, registry.Auth{}, nil); err == nil {
		t.Fatal("a cut connection goes unnoticed")
	}
	resumed := make(chan string, 100)
	server.Break(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Range") != "" {
			resumed <- r.Header.Get("Range")
		}
		next.ServeHTTP(w, r)
	})
	_, _ = s.Pull(t.Context(), server.Addr()+"/team/big:1", nil, registry.Auth{}, nil)
	select {
	case from := <-resumed:
		t.Log(from)
	default:
		t.Error("the layer is fetched from its beginning")
	}
}

// Bytes that do not have their digest become no image, whatever the registry says, and leave nothing in the way of the true ones.
func TestARegistryThatLiesIsNotBelieved(t *testing.T) {
	s := newStore(t)
	load(t, s)
	server := registrytest.New(t, registrytest.Options{})
	name := server.Addr() + "/team/box:1"
	if err := s.Tag(t.Context(), "busybox", name); err != nil {
		t.Fatal(err)
	}
	if err := s.Push(t.Context(), name, nil, registry.Auth{}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"/blobs/", "/manifests/"} {
		other := newStore(t)
		server.Break(registrytest.Lie(part))
		if img, err := other.Pull(t.Context(), name, nil, registry.Auth{}, nil); err == nil {
			t.Errorf("%s: %+v", part, img)
		}
		server.Break(nil)
		if _, err := other.Pull(t.Context(), name, nil, registry.Auth{}, nil); err != nil {
			t.Errorf("%s: the registry says the truth again: %v", part, err)
		}
	}
}
