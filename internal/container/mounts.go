package container

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// addMounts adds the mounts that the user asked for to a container's OCI configuration, together with its secrets and configs. They
// replace the system's at the same path, and one at /dev all that the system has there. A directory is mounted before what is mounted
// below it.
func (e *Engine) addMounts(spec *specs.Spec, info *Info) error {
	var mounts []specs.Mount
	for _, p := range info.Mounts {
		m, err := e.ociMount(spec, info, p)
		if err != nil {
			return err
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
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(have specs.Mount) bool {
			return have.Destination == m.Destination || m.Destination == "/dev" && strings.HasPrefix(have.Destination, "/dev/")
		})
	}
	spec.Mounts = append(spec.Mounts, mounts...)
	return nil
}

// ociMount returns one mount that the user asked for, and mounts the volume that it shows.
func (e *Engine) ociMount(spec *specs.Spec, info *Info, p MountPoint) (specs.Mount, error) {
	asked := askedMount(info.Spec.Mounts, p.Target)
	m := specs.Mount{Destination: p.Target, Type: "bind", Source: p.Source}
	switch p.Type {
	case "tmpfs":
		m = tmpfs(p.Target, asked.Tmpfs)
		if !p.RW {
			m.Options = append(m.Options, "ro")
		}
		return m, nil
	case "volume", "image":
		dir, err := e.sourceDir(info, p, asked)
		if err != nil {
			return m, err
		}
		m.Source = dir
	}
	var err error
	if m.Options, err = bindOptions(p, asked.Bind); err != nil {
		return m, err
	}
	return m, e.checkPropagation(spec.Linux, p, asked.Bind)
}

// sourceDir mounts a volume or an image on the host and returns the directory of it that is asked for.
func (e *Engine) sourceDir(info *Info, p MountPoint, asked shoal.Mount) (string, error) {
	if p.Type == "image" {
		return e.imageDir(info, p, asked)
	}
	return e.volumeDir(info, p, asked)
}

// volumeDir mounts a volume and returns the directory of it that is asked for.
func (e *Engine) volumeDir(info *Info, p MountPoint, asked shoal.Mount) (string, error) {
	dir, err := e.Volumes.Mount(p.Name, info.ID)
	if err != nil || asked.Volume == nil {
		return dir, err
	}
	return e.subpath(info.ID, mountNumber(info, p), dir, asked.Volume.Subpath)
}

// mountNumber is the place of a mount among those of its container.
func mountNumber(info *Info, p MountPoint) int {
	return slices.IndexFunc(info.Mounts, func(m MountPoint) bool { return m.Target == p.Target })
}

// askedMount is what the user asked to be mounted at a target, as it was asked for; zero if it was not asked for as a mount.
func askedMount(mounts []shoal.Mount, target string) shoal.Mount {
	for _, m := range mounts {
		if path.Clean(m.Target) == target {
			return m
		}
	}
	return shoal.Mount{}
}

// tmpfs returns the mount of a file system in memory. Docker's defaults forbid to execute what is in it.
func tmpfs(target string, asked *shoal.TmpfsOptions) specs.Mount {
	out := specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
	if asked == nil {
		return out
	}
	if asked.SizeBytes > 0 {
		out.Options = append(out.Options, fmt.Sprintf("size=%d", asked.SizeBytes))
	}
	if asked.Mode != 0 {
		out.Options = append(out.Options, fmt.Sprintf("mode=%o", asked.Mode))
	}
	for _, o := range asked.Options {
		if len(o) > 0 {
			opposite := "no" + o[0]
			if have, isNo := strings.CutPrefix(o[0], "no"); isNo {
				opposite = have
			}
			out.Options = slices.DeleteFunc(out.Options, func(have string) bool { return have == opposite || have == o[0] })
		}
		out.Options = append(out.Options, strings.Join(o, "="))
	}
	return out
}
