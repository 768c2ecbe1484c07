package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (c *containers) create(w http.ResponseWriter, r *http.Request) error {
	spec, err := readCreateRequest(r, c.engine)
	if err != nil {
		return err
	}
	id, err := c.engine.Create(r.Context(), r.FormValue("name"), spec)
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, apicontainer.CreateResponse{ID: id, Warnings: []string{}})
}

func readCreateRequest(r *http.Request, engine *container.Engine) (container.Spec, error) {
	body := apicontainer.CreateRequest{}
	if err := server.ReadJSON(r, &body); err != nil {
		return container.Spec{}, err
	}
	if body.Config == nil {
		return container.Spec{}, server.BadRequest("config cannot be empty in order to create a container")
	}
	if body.HostConfig == nil {
		body.HostConfig = &apicontainer.HostConfig{}
	}
	return fromAPICreateRequest(body, engine)
}

// fromAPICreateRequest reads a request for a container. The request itself is kept with the container, for inspect to show.
func fromAPICreateRequest(body apicontainer.CreateRequest, engine *container.Engine) (container.Spec, error) {
	c, h := body.Config, body.HostConfig
	if h.NetworkMode == "" {
		h.NetworkMode = "default"
	}
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
		Sysctls: h.Sysctls, GroupAdd: h.GroupAdd, ShmSize: h.ShmSize, Init: h.Init != nil && *h.Init, OomScoreAdj: h.OomScoreAdj,
		PidMode: string(h.PidMode), IpcMode: string(h.IpcMode), UTSMode: string(h.UTSMode), CgroupnsMode: string(h.CgroupnsMode),
		CgroupParent: h.CgroupParent, API: raw, Shell: c.Shell, ConsoleSize: h.ConsoleSize, PublishAll: h.PublishAllPorts,
		DeviceCgroupRules: h.DeviceCgroupRules, MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths, Umask: h.Umask, Annotations: h.Annotations,
	}
	if err := validateHostConfig(h); err != nil {
		return s, err
	}
	if h.AutoRemove && s.Restart.Name != "" && s.Restart.Name != "no" {
		return s, server.BadRequest("can't create 'AutoRemove' container with restart policy")
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
	s.Mounts, s.Volumes = withVolumeDriver(h.VolumeDriver, s.Mounts, s.Volumes)
	s.Network, err = fromAPINetworking(body)
	return s, err
}
