package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/container/layers"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/volume"
)

// makeMounts creates the volumes that a container needs, fills new ones from the image and adds all mounts to info. A mount that cannot
// be made as it was asked for is an invalid argument.
func (e *Engine) makeMounts(ctx context.Context, info *Info) error {
	wanted := slices.Clone(info.Spec.Mounts)
	for _, target := range info.Spec.Volumes {
		if !slices.ContainsFunc(wanted, func(m shoal.Mount) bool { return path.Clean(m.Target) == path.Clean(target) }) {
			wanted = append(wanted, shoal.Mount{Type: "volume", Target: target})
		}
	}
	for _, m := range wanted {
		if !path.IsAbs(m.Target) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid mount config for type %q: invalid mount path: '%s' mount path must be absolute", m.Type, m.Target))
		}
		point, err := e.makeMount(ctx, info, m)
		info.Mounts = append(info.Mounts, point) // also after an error: discard gives up the volume if there is one
		if err != nil {
			return err
		}
	}
	return nil
}

// makeMount makes what one mount needs. The type "" is a volume.
func (e *Engine) makeMount(ctx context.Context, info *Info, m shoal.Mount) (MountPoint, error) {
	point := MountPoint{Type: m.Type, Source: m.Source, Target: path.Clean(m.Target), RW: !m.ReadOnly}
	switch m.Type {
	case "volume", "":
		return e.makeVolume(ctx, info.ID, m, point)
	case "bind":
		point.Source = filepath.Clean(m.Source)
		var err error
		if point.Propagation, err = e.bindPropagation(m); err != nil {
			return point, err
		}
		return point, makeBindSource(m)
	case "image":
		return e.makeImageMount(ctx, info, m, point)
	case "tmpfs":
		return point, nil
	}
	return point, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("mount type %q unknown", m.Type))
}

// makeVolume makes the volume of a mount unless it exists, and makes the container one of its users.
func (e *Engine) makeVolume(ctx context.Context, containerID string, m shoal.Mount, point MountPoint) (MountPoint, error) {
	point.Type = "volume"
	opts := m.Volume
	if opts == nil {
		opts = &shoal.VolumeOptions{}
	}
	spec := volume.Spec{Name: m.Source, Labels: opts.Labels}
	if opts.Driver != nil {
		spec.Driver, spec.Options = opts.Driver.Name, opts.Driver.Options
	}
	v, err := e.Volumes.Create(spec)
	if err != nil {
		return point, err
	}
	point.Name, point.Driver, point.Source, point.Mode = v.Name, v.Driver, v.Mountpoint, "z"
	if err := e.Volumes.AddReference(v.Name, containerID); err != nil {
		return point, err
	}
	if opts.NoCopy || len(v.Options) > 0 { // a volume with options has a file system of its own
		return point, nil
	}
	if opts.Subpath == "" {
		return point, e.copyImageContents(ctx, containerID, point, point.Source)
	}
	into, err := openBelow(point.Source, opts.Subpath)
	if err != nil {
		return point, nil //nolint:nilerr // the start says so, as in Docker: it may be there by then
	}
	defer func() { _ = into.Close() }()
	return point, e.copyImageContents(ctx, containerID, point, descriptorPath(into))
}

// makeBindSource makes sure that the host has what is to be mounted: it makes a directory if the mount asks for that.
func makeBindSource(m shoal.Mount) error {
	if _, err := os.Stat(m.Source); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if m.Bind == nil || !m.Bind.CreateMountpoint {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source))
	}
	if err := os.MkdirAll(m.Source, 0o755); err != nil {
		return fmt.Errorf("make bind source: %w", err)
	}
	return nil
}

// copyImageContents fills a folder of a volume, if it is empty, with the files that the image has at the mount point, and gives it the owner and permissions
// that the directory has there, as Docker does.
func (e *Engine) copyImageContents(ctx context.Context, id string, point MountPoint, into string) error {
	if info, err := os.Stat(into); err == nil && !info.IsDir() {
		return nil
	}
	present, err := os.ReadDir(into)
	if err != nil || len(present) > 0 {
		return err
	}
	root, err := e.snapshotter().Mounts(ctx, id)
	if err != nil {
		return fmt.Errorf("mount snapshot: %w", err)
	}
	rel := strings.TrimPrefix(point.Target, "/")
	if !layers.Of(root).HasDir(rel) { // spares the mount for most volumes
		return nil
	}
	return mount.WithTempMount(ctx, root, func(dir string) error {
		from, err := continuity.RootPath(dir, rel)
		if err != nil {
			return err
		}
		info, err := os.Stat(from)
		if err != nil || !info.IsDir() {
			return nil //nolint:nilerr // the image has nothing to copy there
		}
		if err := continuity.CopyDir(into, from); err != nil {
			return fmt.Errorf("fill volume %s: %w", point.Name, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(from, &st); err != nil {
			return err
		}
		return errors.Join(os.Chown(into, int(st.Uid), int(st.Gid)), os.Chmod(into, info.Mode()))
	})
}
