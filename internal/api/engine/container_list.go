package engine

import (
	"fmt"
	"net/http"
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
	f, err := c.readContainerFilters(r)
	if err != nil {
		return err
	}
	all := server.BoolParam(r, "all") || f.Has("status") || f.Has("exited")
	limit := 0
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil {
			return server.BadRequest("%v", err)
		}
	}
	out := []apicontainer.Summary{}
	containers := c.engine.List(nil)
	links := linkNames(containers)
	for _, info := range containers {
		if !all && limit <= 0 && !isRunning(info) || !c.matches(f, info) {
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
