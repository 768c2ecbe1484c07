package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (c *containers) create(w http.ResponseWriter, r *http.Request) error {
	spec, warnings, err := readCreateRequest(r, c.engine)
	if err != nil {
		return err
	}
	if err := nameNetworks(&spec.Network, c.findNetwork); err != nil {
		return err
	}
	platform, err := platformText(r)
	if err != nil {
		return err
	}
	if platform != nil {
		spec.Platform = platforms.FormatAll(*platform)
	}
	warning, err := c.platformWarning(r, &spec)
	if err != nil {
		return err
	}
	id, err := c.engine.Create(r.Context(), r.FormValue("name"), spec)
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, apicontainer.CreateResponse{ID: id, Warnings: append(append([]string{}, warnings...), append(warning, server.Warnings(r)...)...)})
}

// platformWarning warns of an image that is not for this node's platform, if none was asked for.
func (c *containers) platformWarning(r *http.Request, spec *container.Spec) ([]string, error) {
	if spec.Platform != "" {
		return nil, nil
	}
	img, err := c.images.Get(r.Context(), spec.Image)
	if err != nil {
		return nil, err
	}
	has, host := platforms.Normalize(img.Platform()), platforms.DefaultSpec()
	if has.Architecture == "" || platforms.Only(host).Match(has) {
		return nil, nil
	}
	return []string{fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
		platforms.FormatAll(has), platforms.FormatAll(host))}, nil
}

// shownMode is a network mode as lists show it.
func shownMode(m apicontainer.NetworkMode) string {
	if m == "default" {
		return "bridge"
	}
	return string(m)
}

func readCreateRequest(r *http.Request, engine *container.Engine) (container.Spec, []string, error) {
	body := struct {
		apicontainer.CreateRequest
		MacAddress string // of API versions up to 1.51, which are converted
	}{}
	if err := server.ReadJSON(r, &body); err != nil {
		return container.Spec{}, nil, err
	}
	switch {
	case body.Config == nil:
		return container.Spec{}, nil, server.BadRequest("config cannot be empty in order to create a container")
	case body.MacAddress != "":
		return container.Spec{}, nil, server.BadRequest("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	if body.HostConfig == nil {
		body.HostConfig = &apicontainer.HostConfig{}
	}
	warnings, err := validateCreate(&body.CreateRequest)
	if err != nil {
		return container.Spec{}, nil, err
	}
	warnings = append(warnings, fillPortBindings(r, body.HostConfig)...)
	spec, err := fromAPICreateRequest(body.CreateRequest, engine)
	return spec, warnings, err
}

// fillPortBindings makes a port without bindings one that is published on any port, and warns newer clients that this will end.
func fillPortBindings(r *http.Request, h *apicontainer.HostConfig) (warning []string) {
	var empty []string
	for port, bindings := range h.PortBindings {
		if len(bindings) == 0 {
			empty = append(empty, port.String())
			h.PortBindings[port] = []network.PortBinding{{}}
		}
	}
	if len(empty) == 0 || version.Before(r.Context(), "1.52") {
		return nil
	}
	slices.Sort(empty)
	return []string{fmt.Sprintf("Following container port(s) have an empty list of port-bindings: %s. Such bindings will be discarded in a future version.", strings.Join(empty, ", "))}
}

// fromAPICreateRequest reads a request for a container. The request itself is kept with the container, for inspect to show.
func fromAPICreateRequest(body apicontainer.CreateRequest, engine *container.Engine) (container.Spec, error) {
	c, h := body.Config, body.HostConfig
	if h.NetworkMode == "" {
		h.NetworkMode = "default"
	}
	if h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil
	}
	h.NetworkMode = apicontainer.NetworkMode(byID(engine, string(h.NetworkMode)))
	h.PidMode, h.IpcMode = apicontainer.PidMode(byID(engine, string(h.PidMode))), apicontainer.IpcMode(byID(engine, string(h.IpcMode)))
	raw, err := json.Marshal(body)
	if err != nil {
		return container.Spec{}, fmt.Errorf("keep request: %w", err)
	}
	s := container.Spec{
		Image: c.Image, Hostname: c.Hostname, Domainname: c.Domainname, User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal, TTY: c.Tty, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce,
		Restart:    container.Restart{Name: string(h.RestartPolicy.Name), MaxRetries: h.RestartPolicy.MaximumRetryCount},
		AutoRemove: h.AutoRemove, Log: shoal.Driver{Name: h.LogConfig.Type, Options: h.LogConfig.Config}, Resources: fromAPIResources(h.Resources),
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, Privileged: h.Privileged, ReadOnly: h.ReadonlyRootfs, SecurityOpt: h.SecurityOpt,
		Sysctls: h.Sysctls, GroupAdd: h.GroupAdd, ShmSize: h.ShmSize, Init: h.Init, OomScoreAdj: h.OomScoreAdj,
		PidMode: string(h.PidMode), IpcMode: string(h.IpcMode), UTSMode: string(h.UTSMode), CgroupnsMode: string(h.CgroupnsMode),
		Runtime: h.Runtime, CgroupParent: h.CgroupParent, Annotations: h.Annotations, NetworkMode: shownMode(h.NetworkMode), API: raw,
		Shell: c.Shell, ConsoleSize: h.ConsoleSize, PublishAll: h.PublishAllPorts,
		DeviceCgroupRules: h.DeviceCgroupRules, MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths, Umask: h.Umask,
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // --entrypoint ""
		s.Entrypoint = []string{}
	}
	if c.StopTimeout != nil {
		s.StopTimeout = time.Duration(*c.StopTimeout) * time.Second
		if *c.StopTimeout == 0 {
			s.StopTimeout = time.Nanosecond // the engine's none
		}
	}
	s.Healthcheck = convert.FromAPIHealthcheck(c.Healthcheck)
	for port := range c.ExposedPorts {
		s.ExposedPorts = append(s.ExposedPorts, port.String())
	}
	for target := range c.Volumes {
		s.Volumes = append(s.Volumes, target)
	}
	for _, u := range h.Ulimits {
		s.Ulimits = append(s.Ulimits, convert.FromAPIUlimit(u))
	}
	for _, d := range h.Devices {
		s.Devices = append(s.Devices, container.Device{Host: d.PathOnHost, Container: d.PathInContainer, Permissions: d.CgroupPermissions})
	}
	if s.Mounts, err = fromAPIMounts(h, engine); err != nil {
		return s, err
	}
	if h.VolumeDriver != "" && h.VolumeDriver != "local" {
		s.Mounts, s.Volumes = append(s.Mounts, anonymousVolumes(h.VolumeDriver, s.Volumes, s.Mounts)...), nil
	}
	s.Network, err = fromAPINetworking(body)
	if c.NetworkDisabled {
		s.Network.Mode, s.Network.Endpoints, s.Network.Ports = "none", nil, nil
	}
	return s, err
}

// byID is a mode that names another container, with that container's ID, which it keeps; any other as it is.
func byID(engine *container.Engine, mode string) string {
	if ref, ok := strings.CutPrefix(mode, "container:"); ok {
		if other, err := engine.Inspect(ref); err == nil {
			return "container:" + other.ID
		}
	}
	return mode
}
