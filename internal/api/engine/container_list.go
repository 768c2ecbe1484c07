package engine

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
)

func (c *containers) list(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadFilters(r, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return err
	}
	all := server.BoolParam(r, "all") || len(f["status"]) > 0 || len(f["exited"]) > 0
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	out := []apicontainer.Summary{}
	for _, ref := range slices.Concat(f["before"], f["since"]) {
		if _, err := c.engine.Inspect(ref); err != nil {
			return err
		}
	}
	containers := c.engine.List(nil)
	links := linkNames(containers)
	for _, info := range containers {
		if !all && limit <= 0 && !isRunning(info) || !c.matches(r.Context(), f, info) {
			continue
		}
		summary := toAPIContainerSummary(info)
		summary.Names = namesOf(info, links)
		if server.BoolParam(r, "size") {
			if summary.SizeRw, summary.SizeRootFs, err = c.engine.Size(r.Context(), info.ID); err != nil {
				continue // it has been removed meanwhile
			}
		}
		out = append(out, summary)
		if limit > 0 && len(out) == limit {
			break
		}
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

// matches tells whether a container passes the filters of a list.
func (c *containers) matches(ctx context.Context, f server.Filters, info container.Info) bool {
	health := "none"
	if info.State.Health != nil {
		health = info.State.Health.Status
	}
	// The other container may have been removed meanwhile: then nothing passes.
	comparedTo := func(name string, matches func(other container.Info) bool) bool {
		for _, ref := range f[name] {
			if other, err := c.engine.Inspect(ref); err != nil || !matches(other) {
				return false
			}
		}
		return true
	}
	_, task := info.Labels["com.docker.swarm.task.id"]
	return f.Prefix("id", info.ID) &&
		f.Any("name", func(v string) bool { return nameMatches(v, "/"+info.Name) || nameMatches(v, info.Name) }) &&
		f.Equal("status", string(info.State.Status)) &&
		f.Equal("health", health) &&
		f.True("is-task", task) &&
		f.Any("exited", func(v string) bool {
			return info.State.Status == container.Exited && v == strconv.Itoa(info.State.ExitCode)
		}) &&
		f.Any("ancestor", func(v string) bool {
			if img, err := c.images.Get(ctx, v); err == nil {
				return slices.Contains(img.IDs(), info.ImageID)
			}
			return v == info.Spec.Image
		}) &&
		f.Any("volume", func(v string) bool {
			return slices.ContainsFunc(info.Mounts, func(m container.MountPoint) bool { return v == m.Name || v == m.Target })
		}) &&
		f.Any("network", func(v string) bool {
			for _, e := range info.Sandbox.Endpoints {
				if v == e.Network || strings.HasPrefix(string(e.NetworkID), v) {
					return true
				}
			}
			return v == info.Spec.Network.Mode
		}) &&
		f.Any("publish", func(v string) bool { return publishes(info, v) }) &&
		f.Any("expose", func(v string) bool {
			return slices.Contains(info.Spec.ExposedPorts, v) || slices.Contains(info.Spec.ExposedPorts, v+"/tcp")
		}) &&
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

// publishes tells whether a container publishes a port of the host, given as "80" or "80/tcp".
func publishes(info container.Info, port string) bool {
	number, proto, _ := strings.Cut(port, "/")
	for _, p := range info.Sandbox.Ports {
		if (proto == "" || proto == string(p.Protocol)) && number == fmt.Sprint(p.HostPort) {
			return true
		}
	}
	return false
}

func toAPIContainerSummary(info container.Info) apicontainer.Summary {
	s := apicontainer.Summary{
		ID: info.ID, Names: []string{"/" + info.Name}, Image: info.Spec.Image, ImageID: info.ImageID,
		Command: strings.Join(append([]string{info.Path}, info.Args...), " "), Created: info.Created.Unix(), Ports: []apicontainer.PortSummary{},
		Labels: info.Labels, State: apicontainer.ContainerState(info.State.Status), Status: statusText(info, time.Now()),
		NetworkSettings: &apicontainer.NetworkSettingsSummary{Networks: toAPIEndpointSettings(info)}, Mounts: toAPIMountPoints(info),
		ImageManifestDescriptor: imageManifest(info),
	}
	s.HostConfig.NetworkMode, s.HostConfig.Annotations = requestedMode(info), info.Spec.Annotations
	if !isUp(info) {
		return s
	}
	published := map[string]bool{}
	for _, p := range info.Sandbox.Ports {
		published[fmt.Sprintf("%d/%s", p.Target, p.Protocol)] = true
		s.Ports = append(s.Ports, apicontainer.PortSummary{IP: publishedAddr(p), PrivatePort: p.Target, PublicPort: p.HostPort, Type: string(p.Protocol)})
	}
	for _, e := range info.Spec.ExposedPorts {
		if port, err := network.ParsePort(e); err == nil && !published[e] {
			s.Ports = append(s.Ports, apicontainer.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
	}
	return s
}

// statusText is the STATUS column of `docker ps`.
func statusText(info container.Info, now time.Time) string {
	s := info.State
	up := "Up " + units.HumanDuration(now.Sub(s.StartedAt))
	since := units.HumanDuration(now.Sub(s.FinishedAt)) + " ago"
	switch s.Status {
	case container.Running:
		if s.Health != nil {
			health := s.Health.Status
			if health == container.HealthStarting {
				health = "health: starting"
			}
			return up + " (" + health + ")"
		}
		return up
	case container.Paused:
		return up + " (Paused)"
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d) %s", s.ExitCode, since)
	case container.Exited:
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, since)
	case container.Dead:
		return "Dead"
	case container.Removing:
		return "Removal In Progress"
	default:
		return "Created"
	}
}
