package container

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	continuity "github.com/containerd/continuity/fs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// addMounts adds the mounts that the user asked for to a container's OCI configuration, together with its secrets and configs. They
// replace the system's at the same path. A directory is mounted before what is mounted below it.
func (e *Engine) addMounts(spec *specs.Spec, info *Info) error {
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
	files, err := e.mountFiles(info)
	if err != nil {
		return err
	}
	mounts = append(mounts, files...)
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	for _, m := range mounts {
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(have specs.Mount) bool { return have.Destination == m.Destination })
	}
	spec.Mounts = append(spec.Mounts, mounts...)
	return nil
}

// subpath is the directory of a volume that is mounted at a target, "" for the whole volume.
func subpath(mounts []shoal.Mount, target string) string {
	for _, m := range mounts {
		if path.Clean(m.Target) == target && m.Volume != nil {
			return m.Volume.Subpath
		}
	}
	return ""
}

// tmpfs returns the mount of a file system in memory, with the options that the spec has for the target. Docker's defaults forbid to
// execute what is in it.
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
