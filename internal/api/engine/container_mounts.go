package engine

import (
	"path"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// fromAPIMounts reads the mounts of a request from all the fields in which they can be, and refuses two at the same place. engine
// knows the containers whose volumes are asked for.
func fromAPIMounts(h *apicontainer.HostConfig, engine *container.Engine) ([]shoal.Mount, error) {
	var mounts []shoal.Mount
	for _, bind := range h.Binds {
		m, err := parseBind(bind)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	for _, m := range h.Mounts {
		mounts = append(mounts, convert.FromAPIMount(m))
	}
	for target, options := range h.Tmpfs {
		mounts = append(mounts, parseTmpfs(target, options))
	}
	for _, from := range h.VolumesFrom {
		if from == "" {
			return nil, server.BadRequest("volumes-from specification cannot be an empty string")
		}
		ref, mode, _ := strings.Cut(from, ":")
		for m := range strings.SplitSeq(mode, ",") {
			if !slices.Contains([]string{"", "ro", "rw", "z", "Z"}, m) {
				return nil, server.BadRequest("invalid mode: %s", mode)
			}
		}
		info, err := engine.Inspect(ref)
		if err != nil {
			return nil, server.BadRequest("%v", err)
		}
		for _, p := range info.Mounts {
			mounts = append(mounts, fromMountPoint(p, mode == "ro"))
		}
	}
	seen := map[string]bool{}
	for _, m := range mounts {
		if at := path.Clean(m.Target); seen[at] {
			return nil, server.BadRequest("Duplicate mount point: %s", at)
		}
		seen[path.Clean(m.Target)] = true
	}
	return mounts, nil
}

// parseTmpfs reads the options of a tmpfs, "key" or "key=value" between commas.
func parseTmpfs(target, options string) shoal.Mount {
	m := shoal.Mount{Type: "tmpfs", Target: target, Tmpfs: &shoal.TmpfsOptions{}}
	for o := range strings.SplitSeq(options, ",") {
		if o != "" {
			m.Tmpfs.Options = append(m.Tmpfs.Options, strings.SplitN(o, "=", 2))
		}
	}
	return m
}

// fromMountPoint is a mount of the same volume or folder as one that another container has.
func fromMountPoint(p container.MountPoint, readOnly bool) shoal.Mount {
	m := shoal.Mount{Type: p.Type, Source: p.Source, Target: p.Target, ReadOnly: !p.RW || readOnly}
	if p.Type == "volume" {
		m.Source = p.Name
	}
	return m
}

// parseBind reads source:target[:options].
func parseBind(text string) (shoal.Mount, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) {
		return shoal.Mount{}, server.BadRequest("invalid volume specification: '%s'", text)
	}
	m := shoal.Mount{Type: "volume", Source: parts[0], Target: parts[1]}
	if path.IsAbs(parts[0]) {
		m.Type, m.Bind = "bind", &shoal.BindOptions{CreateMountpoint: true}
	}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "nocopy":
				m.Volume = &shoal.VolumeOptions{NoCopy: true}
			case "rw", "z", "Z", "":
			case "private", "rprivate", "shared", "rshared", "slave", "rslave":
				if m.Bind != nil {
					m.Bind.Propagation = o
				}
			default:
				return m, server.BadRequest("invalid mode: %s", parts[2])
			}
		}
	}
	return m, nil
}
