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
		if m.Type == "volume" && h.VolumeDriver != "" {
			if m.Volume == nil {
				m.Volume = &shoal.VolumeOptions{}
			}
			m.Volume.Driver = &shoal.Driver{Name: h.VolumeDriver}
		}
		mounts = append(mounts, m)
	}
	for _, m := range h.Mounts {
		mounts = append(mounts, convert.FromAPIMount(m))
	}
	for target, options := range h.Tmpfs {
		mounts = append(mounts, parseTmpfs(target, options))
	}
	seen := map[string]bool{}
	for _, m := range mounts {
		if at := path.Clean(m.Target); seen[at] {
			return nil, server.BadRequest("Duplicate mount point: %s", at)
		}
		seen[path.Clean(m.Target)] = true
	}
	for _, from := range h.VolumesFrom {
		theirs, err := volumesFrom(from, engine)
		if err != nil {
			return nil, err
		}
		for _, m := range theirs { // the container's own mount, or that of a container named before, takes the place
			if at := path.Clean(m.Target); !seen[at] {
				seen[at] = true
				mounts = append(mounts, m)
			}
		}
	}
	return mounts, nil
}

// anonymousVolumes are mounts of new volumes of a driver.
func anonymousVolumes(driver string, targets []string, taken []shoal.Mount) []shoal.Mount {
	var mounts []shoal.Mount
	for _, target := range targets {
		if !slices.ContainsFunc(taken, func(m shoal.Mount) bool { return path.Clean(m.Target) == path.Clean(target) }) {
			mounts = append(mounts, shoal.Mount{Type: "volume", Target: target, Volume: &shoal.VolumeOptions{Driver: &shoal.Driver{Name: driver}}})
		}
	}
	return mounts
}

// volumesFrom lists the mounts of another container, "container[:mode]", as they are to be made again.
func volumesFrom(from string, engine *container.Engine) ([]shoal.Mount, error) {
	ref, mode, _ := strings.Cut(from, ":")
	if ref == "" {
		return nil, server.BadRequest("volumes-from specification cannot be an empty string")
	}
	found := parseBindMode(mode)
	if !found.valid || found.propagation != "" || found.copyMode {
		return nil, server.BadRequest("invalid mode: %s", mode)
	}
	info, err := engine.Inspect(ref)
	if err != nil {
		return nil, server.BadRequest("%v", err)
	}
	var mounts []shoal.Mount
	for _, p := range info.Mounts {
		if p.Type == "volume" || p.Type == "bind" || p.Type == "image" {
			mounts = append(mounts, fromMountPoint(info, p, found.readOnly))
		}
	}
	return mounts, nil
}

// parseTmpfs reads the options of a tmpfs, "key" or "key=value" between commas.
func parseTmpfs(target, options string) shoal.Mount {
	m := shoal.Mount{Type: "tmpfs", Source: "tmpfs", Target: target, Tmpfs: &shoal.TmpfsOptions{}}
	for o := range strings.SplitSeq(options, ",") {
		if o != "" {
			m.Tmpfs.Options = append(m.Tmpfs.Options, strings.SplitN(o, "=", 2))
		}
	}
	return m
}

// fromMountPoint is a mount of the same volume or folder as one that another container has.
func fromMountPoint(info container.Info, p container.MountPoint, readOnly bool) shoal.Mount {
	m := shoal.Mount{Type: p.Type, Source: p.Source, Target: p.Target, ReadOnly: !p.RW || readOnly}
	for _, asked := range info.Spec.Mounts {
		if path.Clean(asked.Target) == p.Target {
			m.Bind, m.Volume, m.Image = asked.Bind, asked.Volume, asked.Image
		}
	}
	if p.Type == "image" {
		m.Source = p.Name
	}
	if p.Type == "volume" {
		m.Source, m.Bind = p.Name, nil
		if m.Volume != nil { // it is there, with what the other filled it with
			m.Volume = &shoal.VolumeOptions{NoCopy: m.Volume.NoCopy, Subpath: m.Volume.Subpath}
		}
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
	if len(parts) < 3 {
		return m, nil
	}
	mode := parseBindMode(parts[2])
	if !mode.valid {
		return m, server.BadRequest("invalid mode: %s", parts[2])
	}
	m.ReadOnly = mode.readOnly
	extra := ""
	switch {
	case m.Bind != nil && mode.copyMode:
		extra = "VolumeOptions"
	case m.Bind != nil:
		m.Bind.Propagation = mode.propagation
	case mode.propagation != "":
		extra = "BindOptions"
	case mode.copyMode:
		m.Volume = &shoal.VolumeOptions{NoCopy: true}
	}
	if extra != "" {
		return m, server.BadRequest("invalid volume specification: '%s': invalid mount config for type %q: field %s must not be specified", text, m.Type, extra)
	}
	return m, nil
}

// bindMode is the mode of a bind in the short form, such as "ro,rslave".
type bindMode struct {
	valid, readOnly, copyMode bool
	propagation               string // "" if it names none
}

// parseBindMode reads a mode. It can name one word of each kind: those of SELinux have no effect, and neither has how a mount is kept consistent,
// which is for machines whose files are those of another.
func parseBindMode(text string) bindMode {
	m := bindMode{valid: true}
	if text == "" {
		return m
	}
	kinds := map[string]bool{}
	for o := range strings.SplitSeq(text, ",") {
		kind := ""
		switch o {
		case "ro", "rw":
			kind, m.readOnly = "access", o == "ro"
		case "z", "Z":
			kind = "label"
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			kind, m.propagation = "propagation", o
		case "nocopy":
			kind, m.copyMode = "copy", true
		case "consistent", "cached", "delegated":
			kind = "consistency"
		}
		if kind == "" || kinds[kind] {
			m.valid = false
		}
		kinds[kind] = true
	}
	return m
}
