package engine

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
)

// containerFilters is what a request for a list of containers lets pass.
type containerFilters struct {
	server.Filters
	isTask, byTask     bool
	published, exposed map[string]bool // "80/tcp"
	ancestors          map[string]bool // IDs of images: those that are named, and those that are built on them
	gone               map[string]bool // names of images that are named and not there
}

// readContainerFilters refuses values that nothing could match, with status 400 and in Docker's words.
func (c *containers) readContainerFilters(r *http.Request) (containerFilters, error) {
	var out containerFilters
	var err error
	out.Filters, err = server.ReadFilters(r, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return out, err
	}
	for _, c := range []struct {
		name     string
		validate func(value string) error
	}{
		{"exited", func(v string) error { _, err := strconv.Atoi(v); return err }},
		{"status", func(v string) error { return apicontainer.ValidateContainerState(apicontainer.ContainerState(v)) }},
		{"health", func(v string) error { return apicontainer.ValidateHealthStatus(apicontainer.HealthStatus(v)) }},
	} {
		for _, value := range out.Filters[c.name] {
			if err := c.validate(value); err != nil {
				return out, server.BadRequest("invalid filter '%s=%s': %v", c.name, value, err)
			}
		}
	}
	for _, ref := range slices.Concat(out.Filters["before"], out.Filters["since"]) {
		if _, err := c.engine.Inspect(ref); err != nil {
			return out, err
		}
	}
	if out.isTask, out.byTask, err = out.Bool("is-task"); err != nil {
		return out, err
	}
	if out.published, err = readPorts(out.Filters, "publish"); err != nil {
		return out, err
	}
	if out.exposed, err = readPorts(out.Filters, "expose"); err != nil {
		return out, err
	}
	out.ancestors, out.gone, err = c.builtOn(r.Context(), out.Filters["ancestor"])
	return out, err
}

// readPorts reads a filter of ports, "80", "80/udp" or "8000-8010"; nil without the filter.
func readPorts(f server.Filters, name string) (map[string]bool, error) {
	if !f.Has(name) {
		return nil, nil
	}
	ports := map[string]bool{}
	for _, value := range f[name] {
		if strings.Contains(value, ":") {
			return nil, server.BadRequest("filter for '%s' should not contain ':': %s", name, value)
		}
		found, err := network.ParsePortRange(value)
		if err != nil {
			return nil, server.BadRequest("error while looking up for %s %s: %s", name, value, err)
		}
		for p := range found.All() {
			ports[p.String()] = true
		}
	}
	return ports, nil
}

// builtOn is the IDs of images, and of those whose first layers are theirs, and the names of what is not there.
func (c *containers) builtOn(ctx context.Context, refs []string) (ids, gone map[string]bool, err error) {
	if len(refs) == 0 {
		return nil, nil, nil
	}
	ids, gone = map[string]bool{}, map[string]bool{}
	all, err := c.images.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, ref := range refs {
		base, err := c.images.Get(ctx, ref)
		if err != nil {
			gone[ref] = true
			continue
		}
		for _, id := range base.IDs() {
			ids[id] = true
		}
		first := base.Spec.RootFS.DiffIDs
		for _, img := range all {
			if layers := img.Spec.RootFS.DiffIDs; len(first) > 0 && len(layers) > len(first) && slices.Equal(layers[:len(first)], first) {
				for _, id := range img.IDs() {
					ids[id] = true
				}
			}
		}
	}
	return ids, gone, nil
}

// matches tells whether a container passes.
func (c *containers) matches(f containerFilters, info container.Info) bool {
	health := "none"
	if info.State.Health != nil {
		health = info.State.Health.Status
	}
	// The other container may have been removed meanwhile: then nothing passes.
	comparedTo := func(name string, matches func(other container.Info) bool) bool {
		for _, ref := range f.Filters[name] {
			if other, err := c.engine.Inspect(ref); err != nil || !matches(other) {
				return false
			}
		}
		return true
	}
	_, task := info.Labels["com.docker.swarm.task.id"]
	return f.Match("id", info.ID) &&
		f.Any("name", func(v string) bool { return nameMatches(v, "/"+info.Name) || nameMatches(v, info.Name) }) &&
		f.Equal("status", string(info.State.Status)) &&
		f.Equal("health", health) &&
		(!f.byTask || f.isTask == task) &&
		f.Any("exited", func(v string) bool {
			return info.State.Status == container.Exited && v == strconv.Itoa(info.State.ExitCode)
		}) &&
		(f.ancestors == nil || f.ancestors[info.ImageID] || f.gone[info.Spec.Image]) &&
		f.Any("volume", func(v string) bool {
			return slices.ContainsFunc(info.Mounts, func(m container.MountPoint) bool { return isMountOf(m, v) })
		}) &&
		f.Any("network", func(v string) bool { return isOnNetwork(info, v) }) &&
		(f.published == nil && f.exposed == nil || hasPort(info, f.published, f.exposed)) &&
		comparedTo("before", func(o container.Info) bool { return info.Created.Before(o.Created) }) &&
		comparedTo("since", func(o container.Info) bool { return info.Created.After(o.Created) }) &&
		f.Labels(info.Labels)
}

// nameMatches tells whether a name passes a filter, which is a regular expression, or else a part of the name.
func nameMatches(pattern, name string) bool {
	if re, err := regexp.Compile(pattern); err == nil {
		return re.MatchString(name)
	}
	return strings.Contains(name, pattern)
}

// isMountOf tells whether a mount is of a volume or a directory of the host, or at a path.
func isMountOf(m container.MountPoint, value string) bool {
	return value == m.Target || value == m.Name && m.Name != "" || value == m.Source && m.Name == ""
}

func isOnNetwork(info container.Info, value string) bool {
	for _, e := range info.Sandbox.Endpoints {
		if value == e.Network || strings.HasPrefix(string(e.NetworkID), value) {
			return true
		}
	}
	return value == info.Spec.Network.Mode
}

// hasPort tells whether a container publishes or exposes one of some ports.
func hasPort(info container.Info, published, exposed map[string]bool) bool {
	for _, p := range info.Sandbox.Ports {
		if published[fmt.Sprintf("%d/%s", p.HostPort, p.Protocol)] || exposed[fmt.Sprintf("%d/%s", p.Target, p.Protocol)] {
			return true
		}
	}
	return slices.ContainsFunc(info.Spec.ExposedPorts, func(p string) bool { return exposed[p] })
}
