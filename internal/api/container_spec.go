package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// specOf turns a request for a container into the engine's terms.
func specOf(body createBody, engine *container.Engine) (container.Spec, error) {
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
		AutoRemove: h.AutoRemove, Log: shoal.Driver{Name: h.LogConfig.Type, Options: h.LogConfig.Config}, Resources: resourcesOf(h.Resources),
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, Privileged: h.Privileged, ReadOnly: h.ReadonlyRootfs, SecurityOpt: h.SecurityOpt,
		Sysctls: h.Sysctls, GroupAdd: h.GroupAdd, ShmSize: h.ShmSize, Init: h.Init != nil && *h.Init, OomScoreAdj: h.OomScoreAdj,
		PidMode: string(h.PidMode), IpcMode: string(h.IpcMode), UTSMode: string(h.UTSMode), CgroupnsMode: string(h.CgroupnsMode),
		CgroupParent: h.CgroupParent, API: raw,
	}
	if err := checkHost(h); err != nil {
		return s, err
	}
	if h.AutoRemove && s.Restart.Name != "" && s.Restart.Name != "no" {
		return s, fail(http.StatusBadRequest, "can't create 'AutoRemove' container with restart policy")
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // --entrypoint ""
		s.Entrypoint = []string{}
	}
	if c.StopTimeout != nil {
		s.StopTimeout = time.Duration(*c.StopTimeout) * time.Second
	}
	if hc := c.Healthcheck; hc != nil {
		s.Healthcheck = &shoal.Healthcheck{Test: hc.Test, Interval: hc.Interval, Timeout: hc.Timeout, StartPeriod: hc.StartPeriod, StartInterval: hc.StartInterval, Retries: hc.Retries}
	}
	for port := range c.ExposedPorts {
		s.ExposedPorts = append(s.ExposedPorts, port.String())
	}
	for target := range c.Volumes {
		s.Volumes = append(s.Volumes, target)
	}
	for _, u := range h.Ulimits {
		s.Ulimits = append(s.Ulimits, shoal.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	for _, d := range h.Devices {
		s.Devices = append(s.Devices, container.Device{Host: d.PathOnHost, Container: d.PathInContainer, Permissions: d.CgroupPermissions})
	}
	if s.Mounts, err = mountsOf(h, engine); err != nil {
		return s, err
	}
	s.Network, err = networkOf(body)
	return s, err
}

func resourcesOf(r apicontainer.Resources) container.Resources {
	out := container.Resources{
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation, NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares,
		CPUQuota: r.CPUQuota, CPUPeriod: r.CPUPeriod, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
		OomKillDisable: r.OomKillDisable != nil && *r.OomKillDisable,
	}
	if r.PidsLimit != nil {
		out.Pids = *r.PidsLimit
	}
	return out
}

// mergeResources puts what is set in over on top of base.
func mergeResources(base, over container.Resources) container.Resources {
	for _, p := range []struct{ to, from *int64 }{
		{&base.Memory, &over.Memory}, {&base.MemorySwap, &over.MemorySwap}, {&base.MemoryReservation, &over.MemoryReservation},
		{&base.NanoCPUs, &over.NanoCPUs}, {&base.CPUShares, &over.CPUShares}, {&base.CPUQuota, &over.CPUQuota},
		{&base.CPUPeriod, &over.CPUPeriod}, {&base.Pids, &over.Pids},
	} {
		if *p.from != 0 {
			*p.to = *p.from
		}
	}
	if over.CpusetCpus != "" {
		base.CpusetCpus = over.CpusetCpus
	}
	if over.CpusetMems != "" {
		base.CpusetMems = over.CpusetMems
	}
	return base
}

func mountsOf(h *apicontainer.HostConfig, engine *container.Engine) ([]shoal.Mount, error) {
	var mounts []shoal.Mount
	for _, bind := range h.Binds {
		m, err := bindOf(bind)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	for _, m := range h.Mounts {
		mounts = append(mounts, mountOf(m))
	}
	for target, options := range h.Tmpfs {
		m := shoal.Mount{Type: "tmpfs", Target: target, Tmpfs: &shoal.TmpfsOptions{}}
		for o := range strings.SplitSeq(options, ",") {
			if o != "" {
				m.Tmpfs.Options = append(m.Tmpfs.Options, strings.SplitN(o, "=", 2))
			}
		}
		mounts = append(mounts, m)
	}
	for _, from := range h.VolumesFrom {
		ref, mode, _ := strings.Cut(from, ":")
		info, err := engine.Inspect(ref)
		if err != nil {
			return nil, err
		}
		for _, p := range info.Mounts {
			m := shoal.Mount{Type: p.Type, Source: p.Source, Target: p.Target, ReadOnly: !p.RW || mode == "ro"}
			if p.Type == "volume" {
				m.Source = p.Name
			}
			mounts = append(mounts, m)
		}
	}
	seen := map[string]bool{}
	for _, m := range mounts {
		if at := path.Clean(m.Target); seen[at] {
			return nil, fail(http.StatusBadRequest, "Duplicate mount point: %s", at)
		}
		seen[path.Clean(m.Target)] = true
	}
	return mounts, nil
}

// bindOf reads source:target[:options].
func bindOf(text string) (shoal.Mount, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) {
		return shoal.Mount{}, fail(http.StatusBadRequest, "invalid volume specification: '%s'", text)
	}
	m := shoal.Mount{Type: "volume", Source: parts[0], Target: parts[1]}
	if path.IsAbs(parts[0]) {
		m.Type, m.Bind = "bind", &shoal.BindOptions{CreateMountpoint: true}
	}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "nocopy":
				m.Volume = &shoal.VolumeOptions{NoCopy: true}
			case "rw", "z", "Z", "":
			case "private", "rprivate", "shared", "rshared", "slave", "rslave":
				if m.Bind != nil {
					m.Bind.Propagation = o
				}
			default:
				return m, fail(http.StatusBadRequest, "invalid mode: %s", parts[2])
			}
		}
	}
	return m, nil
}

func mountOf(m mount.Mount) shoal.Mount {
	out := shoal.Mount{Type: string(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Consistency: string(m.Consistency)}
	if b := m.BindOptions; b != nil {
		out.Bind = &shoal.BindOptions{Propagation: string(b.Propagation), NonRecursive: b.NonRecursive, CreateMountpoint: b.CreateMountpoint,
			ReadOnlyNonRecursive: b.ReadOnlyNonRecursive, ReadOnlyForceRecursive: b.ReadOnlyForceRecursive}
	}
	if v := m.VolumeOptions; v != nil {
		out.Volume = &shoal.VolumeOptions{NoCopy: v.NoCopy, Labels: v.Labels, Subpath: v.Subpath}
		if v.DriverConfig != nil {
			out.Volume.Driver = &shoal.Driver{Name: v.DriverConfig.Name, Options: v.DriverConfig.Options}
		}
	}
	if t := m.TmpfsOptions; t != nil {
		out.Tmpfs = &shoal.TmpfsOptions{SizeBytes: t.SizeBytes, Mode: uint32(t.Mode), Options: t.Options}
	}
	return out
}

// networkOf turns the network part of a request into the network's terms.
func networkOf(body createBody) (shoal.SandboxSpec, error) {
	h := body.HostConfig
	s := shoal.SandboxSpec{Mode: string(h.NetworkMode), ExtraHosts: h.ExtraHosts, Links: h.Links, DNS: shoal.DNSConfig{Search: h.DNSSearch, Options: h.DNSOptions}}
	for _, a := range h.DNS {
		s.DNS.Nameservers = append(s.DNS.Nameservers, a.String())
	}
	endpoints := map[string]*network.EndpointSettings{}
	if body.NetworkingConfig != nil {
		endpoints = body.NetworkingConfig.EndpointsConfig
	}
	switch mode := s.Mode; {
	case mode == "default" || mode == "bridge":
		s.Mode = "bridge"
		if len(endpoints) > 0 {
			s.Endpoints = endpointsOf("bridge", endpoints)
		}
	case mode == "host" || mode == "none" || strings.HasPrefix(mode, "container:"):
	default:
		s.Mode = "networks"
		s.Endpoints = endpointsOf(mode, endpoints)
	}
	if s.Mode == "bridge" && len(s.Endpoints) > 1 {
		s.Mode = "networks"
	}
	ports, err := portsOf(body)
	s.Ports = ports
	return s, err
}

// endpointsOf lists the networks to join, the one that the mode names first.
func endpointsOf(first string, settings map[string]*network.EndpointSettings) []shoal.EndpointRequest {
	names := []string{first}
	for name := range settings {
		if name != first && (name != "default" || first != "bridge") {
			names = append(names, name)
		}
	}
	slices.Sort(names[1:])
	var out []shoal.EndpointRequest
	for _, name := range names {
		req := shoal.EndpointRequest{Network: name}
		if e := settings[name]; e != nil {
			req.Aliases, req.DriverOpts, req.MAC = e.Aliases, e.DriverOpts, e.MacAddress.String()
			if e.IPAMConfig != nil {
				req.Addr, req.Addr6 = e.IPAMConfig.IPv4Address, e.IPAMConfig.IPv6Address
			}
		}
		out = append(out, req)
	}
	return out
}

func portsOf(body createBody) ([]shoal.PortBinding, error) {
	var out []shoal.PortBinding
	for port, bindings := range body.HostConfig.PortBindings {
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			p := shoal.PortBinding{Protocol: shoal.Protocol(port.Proto()), Target: port.Num(), HostIP: b.HostIP}
			if b.HostPort != "" {
				from, to, _ := strings.Cut(b.HostPort, "-")
				start, err := strconv.ParseUint(from, 10, 16)
				if err != nil {
					return nil, fail(http.StatusBadRequest, "invalid port specification: %q", b.HostPort)
				}
				p.HostPort = uint16(start)
				if to != "" {
					end, err := strconv.ParseUint(to, 10, 16)
					if err != nil || end < start {
						return nil, fail(http.StatusBadRequest, "invalid port specification: %q", b.HostPort)
					}
					p.HostPortEnd = uint16(end)
				}
			}
			out = append(out, p)
		}
	}
	if body.HostConfig.PublishAllPorts {
		for port := range body.ExposedPorts {
			if _, bound := body.HostConfig.PortBindings[port]; !bound {
				out = append(out, shoal.PortBinding{Protocol: shoal.Protocol(port.Proto()), Target: port.Num(), HostIP: netip.Addr{}})
			}
		}
	}
	slices.SortFunc(out, func(a, b shoal.PortBinding) int { return int(a.Target) - int(b.Target) })
	return out, nil
}
