package container

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// imageView is the key of the snapshot of the nth image that is mounted in a container.
func imageView(id string, n int) string { return id + "-image-" + strconv.Itoa(n) }

// makeImageMount makes the read-only snapshot of an image that is mounted in a container. The container keeps it when the image goes.
func (e *Engine) makeImageMount(ctx context.Context, info *Info, m shoal.Mount, point MountPoint) (MountPoint, error) {
	img, err := e.Images.Get(ctx, m.Source)
	if err != nil {
		return point, err
	}
	if err := e.Images.Unpack(ctx, img); err != nil {
		return point, err
	}
	point.Name, point.Source, point.RW, point.Propagation = m.Source, img.ID, false, defaultPropagation
	root := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": info.Created.String()})
	if _, err := e.snapshotter().View(ctx, imageView(info.ID, imageMounts(info.Mounts)), img.ChainID, root); err != nil {
		return point, fmt.Errorf("prepare image mount: %w", err)
	}
	return point, nil
}

// imageMounts counts the mounted images among mounts.
func imageMounts(mounts []MountPoint) int {
	n := 0
	for _, m := range mounts {
		if m.Type == "image" {
			n++
		}
	}
	return n
}

// imageDir mounts an image on the host, from where the container gets it, and returns the directory of it that is asked for.
func (e *Engine) imageDir(info *Info, p MountPoint, asked shoal.Mount) (string, error) {
	n := 0
	for _, m := range info.Mounts {
		if m.Target == p.Target {
			break
		}
		if m.Type == "image" {
			n++
		}
	}
	mounts, err := e.snapshotter().Mounts(runtime.WithNamespace(context.Background()), imageView(info.ID, n))
	if err != nil {
		return "", fmt.Errorf("find image mount: %w", err)
	}
	dir := filepath.Join(e.State, info.ID, "image-"+strconv.Itoa(n))
	if err := mountOnce(dir, func() error { return mount.All(mounts, dir) }); err != nil {
		return "", fmt.Errorf("mount image: %w", err)
	}
	if asked.Image == nil {
		return dir, nil
	}
	return e.subpath(info.ID, mountNumber(info, p), dir, asked.Image.Subpath)
}

// removeImageMounts removes the snapshots of the images that a container had mounted.
func (e *Engine) removeImageMounts(ctx context.Context, id string) {
	for n := 0; ; n++ {
		if err := e.snapshotter().Remove(context.WithoutCancel(ctx), imageView(id, n)); err != nil {
			if !errdefs.IsNotFound(err) {
				e.Log.Warn("snapshot of an image that was mounted in a removed container cannot be removed; it takes no space but keeps the image's", "container", id, "err", err)
			}
			return
		}
	}
}
