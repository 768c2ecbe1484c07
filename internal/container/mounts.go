package container

import (
	"cmp"
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
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/volume"
)

// makeMounts creates the volumes that a container needs, fills new ones from the image and adds all mounts to info.
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
		if err != nil {
			return err
		}
		info.Mounts = append(info.Mounts, point)
	}
	return nil
}

func (e *Engine) makeMount(ctx context.Context, info *Info, m shoal.Mount) (MountPoint, error) {
	point := MountPoint{Type: m.Type, Source: m.Source, Target: path.Clean(m.Target), RW: !m.ReadOnly}
	switch m.Type {
	case "volume", "":
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
		if err := e.Volumes.AddReference(v.Name, info.ID); err != nil {
			return point, err
		}
		if opts.NoCopy || len(v.Options) > 0 {
			return point, nil
		}
		return point, e.copyImageContents(ctx, info.ID, point)
	case "bind":
		point.Propagation = "rprivate"
		if m.Bind != nil && m.Bind.Propagation != "" {
			point.Propagation = m.Bind.Propagation
		}
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			if m.Bind == nil || !m.Bind.CreateMountpoint {
				return point, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source))
			}
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return point, fmt.Errorf("make bind source: %w", err)
			}
		}
		return point, nil
	case "tmpfs":
		point.Source = ""
		return point, nil
	}
	return point, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("mount type %q unknown", m.Type))
}

// copyImageContents fills an empty volume with the files that the image has at the mount point, as Docker does.
func (e *Engine) copyImageContents(ctx context.Context, id string, point MountPoint) error {
	have, err := os.ReadDir(point.Source)
	if err != nil || len(have) > 0 {
		return err
	}
	root, err := e.snapshotter().Mounts(ctx, id)
	if err != nil {
		return fmt.Errorf("mount snapshot: %w", err)
	}
	rel := strings.TrimPrefix(point.Target, "/")
	if !slices.ContainsFunc(layerDirs(root), func(dir string) bool {
		info, err := os.Lstat(filepath.Join(dir, rel))
		return err == nil && info.IsDir()
	}) {
		return nil
	}
	return mount.WithTempMount(ctx, root, func(dir string) error {
		from, err := continuity.RootPath(dir, rel)
		if err != nil {
			return err
		}
		info, err := os.Stat(from)
		if err != nil || !info.IsDir() {
			return nil //nolint:nilerr // nothing to copy
		}
		if err := continuity.CopyDir(point.Source, from); err != nil {
			return fmt.Errorf("fill volume %s: %w", point.Name, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(from, &st); err != nil {
			return err
		}
		return errors.Join(os.Chown(point.Source, int(st.Uid), int(st.Gid)), os.Chmod(point.Source, info.Mode()))
	})
}

// userMounts adds a container's mounts and files to its OCI configuration, parents before what is mounted inside them.
func (e *Engine) userMounts(spec *specs.Spec, info *Info) error {
	var mounts []specs.Mount
	for _, p := range info.Mounts {
		m := specs.Mount{Destination: p.Target, Type: "bind", Source: p.Source, Options: []string{"rbind", cmp.Or(p.Propagation, "rprivate")}}
		switch p.Type {
		case "volume":
			dir, err := e.Volumes.Mount(p.Name, info.ID)
			if err != nil {
				return err
			}
			if sub := subpath(info.Spec.Mounts, p.Target); sub != "" {
				if dir, err = continuity.RootPath(dir, sub); err != nil {
					return fmt.Errorf("find volume subpath: %w", err)
				}
			}
			m.Source = dir
		case "tmpfs":
			m = tmpfs(info.Spec.Mounts, p.Target)
		}
		if !p.RW {
			m.Options = append(m.Options, "ro")
		}
		mounts = append(mounts, m)
	}
	files, err := e.fileMounts(info)
	if err != nil {
		return err
	}
	mounts = append(mounts, files...)
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	for _, m := range mounts { // the user's mounts replace the system's
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(have specs.Mount) bool { return have.Destination == m.Destination })
	}
	spec.Mounts = append(spec.Mounts, mounts...)
	return nil
}

func subpath(mounts []shoal.Mount, target string) string {
	for _, m := range mounts {
		if path.Clean(m.Target) == target && m.Volume != nil {
			return m.Volume.Subpath
		}
	}
	return ""
}

func tmpfs(mounts []shoal.Mount, target string) specs.Mount {
	out := specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
	for _, m := range mounts {
		if path.Clean(m.Target) != target || m.Tmpfs == nil {
			continue
		}
		if m.Tmpfs.SizeBytes > 0 {
			out.Options = append(out.Options, fmt.Sprintf("size=%d", m.Tmpfs.SizeBytes))
		}
		if m.Tmpfs.Mode != 0 {
			out.Options = append(out.Options, fmt.Sprintf("mode=%o", m.Tmpfs.Mode))
		}
		for _, o := range m.Tmpfs.Options {
			if len(o) > 0 && o[0] == "exec" {
				out.Options = slices.DeleteFunc(out.Options, func(have string) bool { return have == "noexec" })
			}
			out.Options = append(out.Options, strings.Join(o, "="))
		}
	}
	return out
}

// fileMounts writes a container's secrets and configs to a tmpfs of its own, so that they never reach a disk, and returns one bind
// mount for each.
func (e *Engine) fileMounts(info *Info) ([]specs.Mount, error) {
	if len(info.Spec.Files) == 0 {
		return nil, nil
	}
	dir := filepath.Join(e.State, info.ID, "files")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make file directory: %w", err)
	}
	if mounted, err := mount.Lookup(dir); err != nil || mounted.Mountpoint != dir {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return nil, fmt.Errorf("mount file directory: %w", err)
		}
	}
	var mounts []specs.Mount
	for n, f := range info.Spec.Files {
		at := filepath.Join(dir, fmt.Sprint(n))
		if f.Data != nil {
			if err := os.WriteFile(at, f.Data, 0o600); err != nil {
				return nil, fmt.Errorf("write %s: %w", f.Target, err)
			}
			if err := errors.Join(os.Chown(at, f.UID, f.GID), os.Chmod(at, os.FileMode(f.Mode))); err != nil {
				return nil, fmt.Errorf("write %s: %w", f.Target, err)
			}
		}
		mounts = append(mounts, specs.Mount{Destination: f.Target, Type: "bind", Source: at, Options: []string{"bind", "rprivate", "ro"}})
	}
	return mounts, nil
}

// removeFiles unmounts and deletes the secrets and configs of an ended container.
func (e *Engine) removeFiles(id string) {
	dir := filepath.Join(e.State, id)
	if _, err := os.Stat(dir); err != nil {
		return
	}
	if err := mount.UnmountAll(filepath.Join(dir, "files"), unix.MNT_DETACH); err != nil {
		e.Log.Warn("secrets and configs of a container cannot be unmounted; they stay in memory", "container", id, "err", err)
		return
	}
	_ = os.RemoveAll(dir)
}
