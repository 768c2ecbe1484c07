package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (c *containers) inspect(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, toAPIContainer(info))
}

// toAPIContainer shows a container as `docker inspect` does: the request that created it, with what the engine has made of it.
func toAPIContainer(info container.Info) apicontainer.InspectResponse {
	body := apicontainer.CreateRequest{}
	if info.Spec.API == nil || json.Unmarshal(info.Spec.API, &body) != nil || body.Config == nil || body.HostConfig == nil {
		body = toAPICreateRequest(info)
	}
	cfg, host := body.Config, body.HostConfig
	cfg.Hostname, cfg.Env, cfg.Cmd, cfg.Entrypoint = info.Spec.Hostname, info.Env, info.Cmd, info.Entrypoint
	cfg.User, cfg.WorkingDir, cfg.Labels, cfg.StopSignal = info.User, info.WorkingDir, info.Labels, info.StopSignal
	cfg.ExposedPorts = network.PortSet{}
	for _, p := range info.Spec.ExposedPorts {
		if port, err := network.ParsePort(p); err == nil {
			cfg.ExposedPorts[port] = struct{}{}
		}
	}
	if h := info.Healthcheck; h != nil {
		cfg.Healthcheck = convert.ToAPIHealthcheck(h)
	}
	if host.NetworkMode == "default" {
		host.NetworkMode = "bridge"
	}
	host.RestartPolicy.Name = cmp.Or(host.RestartPolicy.Name, apicontainer.RestartPolicyDisabled)
	if host.LogConfig.Type == "" {
		host.LogConfig = apicontainer.LogConfig{Type: info.Spec.Log.Name, Config: map[string]string{}}
	}
	args := info.Args
	if args == nil {
		args = []string{}
	}
	return apicontainer.InspectResponse{
		ID: info.ID, Created: timestamp(info.Created), Path: info.Path, Args: args, State: toAPIState(info), Image: info.ImageID,
		ResolvConfPath: info.Sandbox.ResolvConf, HostnamePath: info.Sandbox.HostnameAt, HostsPath: info.Sandbox.Hosts, LogPath: info.LogPath,
		Name: "/" + info.Name, RestartCount: info.RestartCount, Driver: "overlayfs", Platform: "linux", ExecIDs: info.ExecIDs,
		HostConfig: host, Mounts: toAPIMountPoints(info), Config: cfg, NetworkSettings: toAPINetworkSettings(info),
	}
}

// toAPICreateRequest makes up the request for a container that was not created through the API, as those of tasks.
func toAPICreateRequest(info container.Info) apicontainer.CreateRequest {
	s := info.Spec
	host := &apicontainer.HostConfig{
		NetworkMode: apicontainer.NetworkMode(s.Network.Mode), AutoRemove: s.AutoRemove, CapAdd: s.CapAdd, CapDrop: s.CapDrop, Privileged: s.Privileged,
		ReadonlyRootfs: s.ReadOnly, SecurityOpt: s.SecurityOpt, Sysctls: s.Sysctls, ShmSize: s.ShmSize, OomScoreAdj: s.OomScoreAdj,
		RestartPolicy: apicontainer.RestartPolicy{Name: apicontainer.RestartPolicyMode(s.Restart.Name), MaximumRetryCount: s.Restart.MaxRetries},
		LogConfig:     apicontainer.LogConfig{Type: s.Log.Name, Config: s.Log.Options},
		Resources: apicontainer.Resources{Memory: s.Resources.Memory, NanoCPUs: s.Resources.NanoCPUs, MemoryReservation: s.Resources.MemoryReservation,
			MemorySwap: s.Resources.MemorySwap, CPUShares: s.Resources.CPUShares, CgroupParent: s.CgroupParent},
	}
	if s.Resources.Pids != 0 {
		host.PidsLimit = &s.Resources.Pids
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return apicontainer.CreateRequest{HostConfig: host, Config: &apicontainer.Config{
		Domainname: s.Domainname, Tty: s.TTY, OpenStdin: s.OpenStdin, StdinOnce: s.StdinOnce, Image: s.Image,
	}}
}

// timestamp is how Docker shows times of containers and images.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func toAPIState(info container.Info) *apicontainer.State {
	s := info.State
	out := &apicontainer.State{
		Status: apicontainer.ContainerState(s.Status), Running: isRunning(info),
		Paused: s.Status == container.Paused, Restarting: s.Status == container.Restarting, OOMKilled: s.OOMKilled, Dead: s.Status == container.Dead,
		Pid: s.PID, ExitCode: s.ExitCode, Error: s.Error, StartedAt: timestamp(s.StartedAt), FinishedAt: timestamp(s.FinishedAt),
	}
	if h := s.Health; h != nil {
		out.Health = &apicontainer.Health{Status: apicontainer.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*apicontainer.HealthcheckResult{}}
		for _, p := range h.Log {
			out.Health.Log = append(out.Health.Log, &apicontainer.HealthcheckResult{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output})
		}
	}
	return out
}

func toAPIMountPoints(info container.Info) []apicontainer.MountPoint {
	out := []apicontainer.MountPoint{}
	for _, m := range info.Mounts {
		if m.Type == "tmpfs" && m.Source != "" { // of --tmpfs, which Docker shows in the HostConfig only
			continue
		}
		out = append(out, apicontainer.MountPoint{Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Target, Driver: m.Driver,
			Mode: m.Mode, RW: m.RW, Propagation: mount.Propagation(m.Propagation)})
	}
	return out
}

func toAPINetworkSettings(info container.Info) *apicontainer.NetworkSettings {
	sandbox := info.Sandbox
	out := &apicontainer.NetworkSettings{SandboxID: info.ID, SandboxKey: sandbox.Netns, Ports: network.PortMap{}, Networks: toAPIEndpointSettings(info)}
	if !isUp(info) {
		out.SandboxID, out.SandboxKey = "", ""
		return out
	}
	for _, p := range info.Spec.ExposedPorts {
		if port, err := network.ParsePort(p); err == nil {
			out.Ports[port] = nil
		}
	}
	for _, p := range sandbox.Ports {
		if port, ok := network.PortFrom(p.Target, network.IPProtocol(p.Protocol)); ok {
			out.Ports[port] = append(out.Ports[port], network.PortBinding{HostIP: publishedAddr(p), HostPort: fmt.Sprint(p.HostPort)})
		}
	}
	return out
}

func toAPIEndpointSettings(info container.Info) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	for _, e := range info.Sandbox.Endpoints {
		set := &network.EndpointSettings{NetworkID: string(e.NetworkID), Aliases: e.Aliases, DNSNames: e.DNSNames, DriverOpts: e.DriverOpts}
		if isUp(info) {
			set.EndpointID, set.Gateway, set.IPv6Gateway = e.EndpointID, e.Gateway, e.Gateway6
			if e.Addr.IsValid() {
				set.IPAddress, set.IPPrefixLen = e.Addr.Addr(), e.Addr.Bits()
			}
			if e.Addr6.IsValid() {
				set.GlobalIPv6Address, set.GlobalIPv6PrefixLen = e.Addr6.Addr(), e.Addr6.Bits()
			}
			_ = set.MacAddress.UnmarshalText([]byte(e.MAC.String()))
		}
		out[e.Network] = set
	}
	if len(out) == 0 { // it has not been started: show the networks that it will join
		for _, e := range info.Spec.Network.Endpoints {
			out[e.Network] = toAPIRequestedEndpoint(e)
		}
	}
	if len(out) == 0 && info.Spec.Network.Mode != "networks" && !strings.HasPrefix(info.Spec.Network.Mode, "container:") {
		out[info.Spec.Network.Mode] = &network.EndpointSettings{}
	}
	return out
}

// toAPIRequestedEndpoint shows what is asked of a network, before there is an endpoint.
func toAPIRequestedEndpoint(e shoal.EndpointRequest) *network.EndpointSettings {
	set := &network.EndpointSettings{Aliases: e.Aliases, DriverOpts: e.DriverOpts}
	if e.Addr.IsValid() || e.Addr6.IsValid() {
		set.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: e.Addr, IPv6Address: e.Addr6}
	}
	_ = set.MacAddress.UnmarshalText([]byte(e.MAC.String()))
	return set
}

// publishedAddr is the address of the host that a port is published on.
func publishedAddr(p shoal.PortBinding) netip.Addr {
	if !p.HostIP.IsValid() {
		return netip.IPv4Unspecified()
	}
	return p.HostIP
}
