package engine

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	shown := toAPIContainer(info)
	if server.BoolParam(r, "size") {
		written, total, err := c.engine.Size(r.Context(), info.ID)
		if err != nil {
			return err
		}
		shown.SizeRw, shown.SizeRootFs = &written, &total
	}
	return server.WriteJSON(w, http.StatusOK, shown)
}

// inspected is a container as inspect shows it: moby's type of the newest API version, with what scripts still read of older ones.
type inspected struct {
	apicontainer.InspectResponse
	Config          inspectedConfig
	NetworkSettings inspectedNetwork
}

// inspectedConfig has the container's MAC address, which is the one that was asked for on its main network.
type inspectedConfig struct {
	*apicontainer.Config
	MacAddress string `json:",omitempty"`
}

// inspectedNetwork has the addresses on the default bridge network; they are empty for a container that is not on it.
type inspectedNetwork struct {
	*apicontainer.NetworkSettings
	EndpointID, Gateway, IPAddress, IPv6Gateway, GlobalIPv6Address, MacAddress string
	IPPrefixLen, GlobalIPv6PrefixLen                                           int
}

// toAPIContainer shows a container as `docker inspect` does: the request that created it, with what the engine has made of it.
func toAPIContainer(info container.Info) inspected {
	body := apiRequest(info)
	cfg, host := body.Config, body.HostConfig
	cfg.Hostname, cfg.Env, cfg.Cmd, cfg.Entrypoint = info.Spec.Hostname, slices.Concat(info.Env, withoutValue(info.Spec.Env)), info.Cmd, info.Entrypoint
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
	fillHostConfig(host, info)
	args := info.Args
	if args == nil {
		args = []string{}
	}
	settings := toAPINetworkSettings(info)
	return inspected{
		InspectResponse: apicontainer.InspectResponse{
			ID: info.ID, Created: timestamp(info.Created), Path: info.Path, Args: args, State: toAPIState(info), Image: info.ImageID,
			ResolvConfPath: info.Sandbox.ResolvConf, HostnamePath: info.Sandbox.HostnameAt, HostsPath: info.Sandbox.Hosts, LogPath: info.LogPath,
			Name: "/" + info.Name, RestartCount: info.RestartCount, Driver: "overlayfs", Platform: "linux", ExecIDs: info.ExecIDs,
			Storage:    &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: "overlayfs"}}},
			HostConfig: host, Mounts: toAPIMountPoints(info), ImageManifestDescriptor: imageManifest(info),
		},
		Config: inspectedConfig{cfg, requestedMAC(info)}, NetworkSettings: withBridgeAddresses(settings),
	}
}

// imageManifest is what of its image a container was made from; nil if that is not known.
func imageManifest(info container.Info) *ocispec.Descriptor {
	if info.ImageManifest.Digest == "" {
		return nil
	}
	return &info.ImageManifest
}

// withoutValue is the variables that a container was asked not to have, which the request names without a value.
func withoutValue(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(variable string) bool { return strings.Contains(variable, "=") })
}

// apiRequest is the request that made a container, with what updates have changed since. That of a task is made up.
func apiRequest(info container.Info) apicontainer.CreateRequest {
	body := apicontainer.CreateRequest{}
	if info.Spec.API == nil || json.Unmarshal(info.Spec.API, &body) != nil || body.Config == nil || body.HostConfig == nil {
		return toAPICreateRequest(info)
	}
	return body
}

// requestedMAC is the MAC address that was asked for on a container's main network; empty if none was.
func requestedMAC(info container.Info) string {
	if len(info.Spec.Network.Endpoints) == 0 || info.Spec.Network.Endpoints[0].MAC == (shoal.MAC{}) {
		return ""
	}
	return info.Spec.Network.Endpoints[0].MAC.String()
}

// withBridgeAddresses adds the addresses on the default bridge network, where they were before containers had several networks.
func withBridgeAddresses(s *apicontainer.NetworkSettings) inspectedNetwork {
	out := inspectedNetwork{NetworkSettings: s}
	bridge := s.Networks["bridge"]
	if bridge == nil || bridge.EndpointID == "" {
		return out
	}
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	out.EndpointID, out.MacAddress = bridge.EndpointID, bridge.MacAddress.String()
	out.IPAddress, out.IPPrefixLen, out.Gateway = text(bridge.IPAddress), bridge.IPPrefixLen, text(bridge.Gateway)
	out.GlobalIPv6Address, out.GlobalIPv6PrefixLen, out.IPv6Gateway = text(bridge.GlobalIPv6Address), bridge.GlobalIPv6PrefixLen, text(bridge.IPv6Gateway)
	return out
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
