package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func (c *containers) inspect(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, inspectOf(info))
}

// inspectOf shows a container as `docker inspect` does: the request as it came, completed by what came of it.
func inspectOf(info container.Info) apicontainer.InspectResponse {
	body := createBody{}
	if info.Spec.API == nil || json.Unmarshal(info.Spec.API, &body) != nil || body.Config == nil || body.HostConfig == nil {
		body = requestOf(info)
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
		cfg.Healthcheck = &apicontainer.HealthConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	if host.NetworkMode == "default" {
		host.NetworkMode = "bridge"
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = "no"
	}
	if host.LogConfig.Type == "" {
		host.LogConfig = apicontainer.LogConfig{Type: info.Spec.Log.Name, Config: map[string]string{}}
	}
	args := info.Args
	if args == nil {
		args = []string{}
	}
	return apicontainer.InspectResponse{
		ID: info.ID, Created: stamp(info.Created), Path: info.Path, Args: args, State: stateOf(info), Image: info.ImageID,
		ResolvConfPath: info.Sandbox.ResolvConf, HostnamePath: info.Sandbox.HostnameAt, HostsPath: info.Sandbox.Hosts, LogPath: info.LogPath,
		Name: "/" + info.Name, RestartCount: info.RestartCount, Driver: "overlayfs", Platform: "linux", ExecIDs: info.ExecIDs,
		HostConfig: host, Mounts: mountPointsOf(info), Config: cfg, NetworkSettings: networkSettingsOf(info),
	}
}

// requestOf makes up the request of a container that did not come through the API.
func requestOf(info container.Info) createBody {
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
	return createBody{HostConfig: host, Config: &apicontainer.Config{
		Domainname: s.Domainname, Tty: s.TTY, OpenStdin: s.OpenStdin, StdinOnce: s.StdinOnce, Image: s.Image,
	}}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func stateOf(info container.Info) *apicontainer.State {
	s := info.State
	out := &apicontainer.State{
		Status: apicontainer.ContainerState(s.Status), Running: s.Status == container.Running || s.Status == container.Paused || s.Status == container.Restarting,
		Paused: s.Status == container.Paused, Restarting: s.Status == container.Restarting, OOMKilled: s.OOMKilled, Dead: s.Status == container.Dead,
		Pid: s.PID, ExitCode: s.ExitCode, Error: s.Error, StartedAt: stamp(s.StartedAt), FinishedAt: stamp(s.FinishedAt),
	}
	if h := s.Health; h != nil {
		out.Health = &apicontainer.Health{Status: apicontainer.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*apicontainer.HealthcheckResult{}}
		for _, p := range h.Log {
			out.Health.Log = append(out.Health.Log, &apicontainer.HealthcheckResult{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output})
		}
	}
	return out
}

func mountPointsOf(info container.Info) []apicontainer.MountPoint {
	out := []apicontainer.MountPoint{}
	for _, m := range info.Mounts {
		out = append(out, apicontainer.MountPoint{Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Target, Driver: m.Driver,
			Mode: m.Mode, RW: m.RW, Propagation: mount.Propagation(m.Propagation)})
	}
	return out
}

func networkSettingsOf(info container.Info) *apicontainer.NetworkSettings {
	box := info.Sandbox
	out := &apicontainer.NetworkSettings{SandboxID: info.ID, SandboxKey: box.Netns, Ports: network.PortMap{}, Networks: endpointSettingsOf(info)}
	live := info.State.Status == container.Running || info.State.Status == container.Paused
	if !live {
		out.SandboxID, out.SandboxKey = "", ""
		return out
	}
	for _, p := range info.Spec.ExposedPorts {
		if port, err := network.ParsePort(p); err == nil {
			out.Ports[port] = nil
		}
	}
	for _, p := range box.Ports {
		if port, ok := network.PortFrom(p.Target, network.IPProtocol(p.Protocol)); ok {
			out.Ports[port] = append(out.Ports[port], network.PortBinding{HostIP: hostIP(p), HostPort: fmt.Sprint(p.HostPort)})
		}
	}
	return out
}

func endpointSettingsOf(info container.Info) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	live := info.State.Status == container.Running || info.State.Status == container.Paused
	for _, e := range info.Sandbox.Endpoints {
		set := &network.EndpointSettings{NetworkID: e.NetworkID, Aliases: e.Aliases, DNSNames: e.DNSNames, DriverOpts: e.DriverOpts}
		if live {
			set.EndpointID, set.Gateway, set.IPv6Gateway = e.EndpointID, e.Gateway, e.Gateway6
			if e.Addr.IsValid() {
				set.IPAddress, set.IPPrefixLen = e.Addr.Addr(), e.Addr.Bits()
			}
			if e.Addr6.IsValid() {
				set.GlobalIPv6Address, set.GlobalIPv6PrefixLen = e.Addr6.Addr(), e.Addr6.Bits()
			}
			_ = set.MacAddress.UnmarshalText([]byte(e.MAC))
		}
		out[e.Network] = set
	}
	if len(out) == 0 { // not started yet: the networks that it will join
		for _, e := range info.Spec.Network.Endpoints {
			out[e.Network] = wishedEndpoint(e)
		}
	}
	if len(out) == 0 && info.Spec.Network.Mode != "networks" && !strings.HasPrefix(info.Spec.Network.Mode, "container:") {
		out[info.Spec.Network.Mode] = &network.EndpointSettings{}
	}
	return out
}

// wishedEndpoint shows what is asked of a network before there is an endpoint.
func wishedEndpoint(e shoal.EndpointRequest) *network.EndpointSettings {
	set := &network.EndpointSettings{Aliases: e.Aliases, DriverOpts: e.DriverOpts}
	if e.Addr.IsValid() || e.Addr6.IsValid() {
		set.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: e.Addr, IPv6Address: e.Addr6}
	}
	_ = set.MacAddress.UnmarshalText([]byte(e.MAC))
	return set
}

// hostIP is the address that a port is published on.
func hostIP(p shoal.PortBinding) netip.Addr {
	if !p.HostIP.IsValid() {
		return netip.IPv4Unspecified()
	}
	return p.HostIP
}

func summaryOf(info container.Info) apicontainer.Summary {
	s := apicontainer.Summary{
		ID: info.ID, Names: []string{"/" + info.Name}, Image: info.Spec.Image, ImageID: info.ImageID,
		Command: strings.Join(append([]string{info.Path}, info.Args...), " "), Created: info.Created.Unix(), Ports: []apicontainer.PortSummary{},
		Labels: info.Labels, State: apicontainer.ContainerState(info.State.Status), Status: statusText(info, time.Now()),
		NetworkSettings: &apicontainer.NetworkSettingsSummary{Networks: endpointSettingsOf(info)}, Mounts: mountPointsOf(info),
	}
	s.HostConfig.NetworkMode = info.Spec.Network.Mode
	if info.State.Status != container.Running && info.State.Status != container.Paused {
		return s
	}
	published := map[string]bool{}
	for _, p := range info.Sandbox.Ports {
		published[fmt.Sprintf("%d/%s", p.Target, p.Protocol)] = true
		s.Ports = append(s.Ports, apicontainer.PortSummary{IP: hostIP(p), PrivatePort: p.Target, PublicPort: p.HostPort, Type: string(p.Protocol)})
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
