package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
)

// imageConfig is the configuration of an image.
type imageConfig = dockerspec.DockerOCIImageConfig

// readCommitConfig reads the configuration that a request for a commit brings along; nil if it brings none. What only containers have has no place in an image.
func readCommitConfig(r *http.Request) (*imageConfig, error) {
	var body *apicontainer.Config
	if err := server.ReadJSON(r, &body); err != nil || body == nil {
		return nil, err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("read configuration of the new image: %w", err)
	}
	out := &imageConfig{}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("read configuration of the new image: %w", err)
	}
	return out, nil
}

// committedConfig is the configuration of a container's image, overridden by that of the container. Triggers are not inherited: they are for what is built on
// the image that has them.
func committedConfig(info container.Info, parent *image.Image) imageConfig {
	c := parent.Spec.Config
	c.Env, c.Cmd, c.Entrypoint = slices.Clone(info.Env), info.Cmd, info.Entrypoint
	c.User, c.WorkingDir, c.Labels, c.StopSignal = info.User, info.WorkingDir, maps.Clone(info.Labels), info.StopSignal
	c.ExposedPorts, c.Volumes = maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes)
	for _, p := range info.Spec.ExposedPorts {
		c.ExposedPorts = withKey(c.ExposedPorts, p, struct{}{})
	}
	for _, v := range info.Spec.Volumes {
		c.Volumes = withKey(c.Volumes, v, struct{}{})
	}
	if h := info.Healthcheck; h != nil {
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	asked := apiRequest(info).Config
	c.OnBuild = asked.OnBuild
	if len(asked.Shell) > 0 {
		c.Shell = asked.Shell
	}
	return c
}

// fillConfig takes from the configuration of a container what one that a request has brought along leaves open.
func fillConfig(c *imageConfig, from imageConfig) {
	c.User, c.WorkingDir, c.StopSignal = cmp.Or(c.User, from.User), cmp.Or(c.WorkingDir, from.WorkingDir), cmp.Or(c.StopSignal, from.StopSignal)
	c.ExposedPorts, c.Volumes, c.Labels = union(c.ExposedPorts, from.ExposedPorts), union(c.Volumes, from.Volumes), union(c.Labels, from.Labels)
	for _, variable := range from.Env {
		name, _, _ := strings.Cut(variable, "=")
		if !slices.ContainsFunc(c.Env, func(have string) bool { return have == name || strings.HasPrefix(have, name+"=") }) {
			c.Env = append(c.Env, variable)
		}
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = from.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = from.Entrypoint
		}
	}
	if h := c.Healthcheck; h != nil && from.Healthcheck != nil {
		f := from.Healthcheck
		if len(h.Test) == 0 {
			h.Test = f.Test
		}
		h.Interval, h.Timeout, h.Retries = cmp.Or(h.Interval, f.Interval), cmp.Or(h.Timeout, f.Timeout), cmp.Or(h.Retries, f.Retries)
		h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, f.StartPeriod), cmp.Or(h.StartInterval, f.StartInterval)
	} else if h == nil {
		c.Healthcheck = from.Healthcheck
	}
}

// union is a map with what it lacks of another.
func union[V any](m, from map[string]V) map[string]V {
	for key, value := range from {
		if _, has := m[key]; !has {
			m = withKey(m, key, value)
		}
	}
	return m
}
