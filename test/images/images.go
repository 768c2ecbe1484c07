// Package images makes the container images that tests and the demo run, without a registry: busybox and nginx, from
// Debian's packages. It reads the machine's apt lists and downloads packages; it writes docker archives (`docker load`
// takes them) into a cache directory and nothing else.
package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// revision is part of a cached archive's name, so that a change of a recipe is not hidden by an old cache.
const revision = "10"

// recipe says how one image is made: its root file system and its configuration.
type recipe struct {
	name   string
	tag    string // "latest" if empty
	files  func(ctx context.Context, cache string) (tree, error)
	config v1.Config
}

// ref is the image's name, and its tag if that is not the latest.
func (r recipe) ref() string {
	if r.tag == "" {
		return r.name
	}
	return r.name + ":" + r.tag
}

// recipes are all images of this package, by name.
func recipes() []recipe { return []recipe{busybox(), nginx(), srv("1"), srv("2")} }

// CacheDir is where archives are kept between runs: .cache/images at the root of the source tree.
func CacheDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", ".cache", "images")
}

// Build makes every image that the cache does not have yet and returns the archives' paths by image.
func Build(ctx context.Context, cache string) (map[string]string, error) {
	paths := map[string]string{}
	for _, r := range recipes() {
		path, err := r.archive(ctx, cache)
		if err != nil {
			return nil, err
		}
		paths[r.ref()] = path
	}
	return paths, nil
}

// HAProxy is the archive of Debian's HAProxy, which few need. It reads /haproxy.cfg.
func HAProxy(ctx context.Context, cache string) (string, error) { return haproxy().archive(ctx, cache) }

// archive is the path of the image's archive, which is made if the cache does not have it yet.
func (r recipe) archive(ctx context.Context, cache string) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make image cache: %w", err)
	}
	path := filepath.Join(cache, r.name+r.tag+"-"+revision+".tar")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := r.write(ctx, cache, path); err != nil {
		return "", fmt.Errorf("build image %s: %w", r.ref(), err)
	}
	return path, nil
}

// write makes the archive under a name of its own first, so that two builders at once do no harm.
func (r recipe) write(ctx context.Context, cache, path string) error {
	files, err := r.files(ctx, cache)
	if err != nil {
		return err
	}
	img, err := r.image(files)
	if err != nil {
		return err
	}
	ref, err := name.NewTag("docker.io/library/" + r.ref())
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(cache, r.name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := tarball.Write(ref, img, tmp); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return os.Rename(tmp.Name(), path)
}

func (r recipe) image(files tree) (v1.Image, error) {
	data, err := files.tar()
	if err != nil {
		return nil, fmt.Errorf("pack layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(opener(data))
	if err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	created := v1.Time{Time: time.Unix(1700000000, 0).UTC()}
	img, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: created, CreatedBy: "shoal test images: " + r.name},
	})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", runtime.GOARCH, created, r.config
	return mutate.ConfigFile(img, file)
}
