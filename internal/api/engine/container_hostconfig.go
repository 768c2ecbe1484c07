package engine

import (
	"cmp"
	"slices"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/container/cgroup"
	"github.com/shoal-dev/shoal/internal/container/security"
)

// defaultShmSize is the size of /dev/shm where a request names none, in bytes.
const defaultShmSize = 64 << 20

// fillHostConfig sets what a request has left open to what the container was given, as Docker shows it.
func fillHostConfig(h *apicontainer.HostConfig, info container.Info) {
	if h.NetworkMode == "default" && info.Spec.API != nil {
		h.NetworkMode = "bridge"
	}
	h.Links = shownLinks(info)
	h.RestartPolicy.Name = cmp.Or(h.RestartPolicy.Name, apicontainer.RestartPolicyDisabled)
	fillDefaults(h, info.Spec)
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory
	}
	// The node's settings are part of the spec since the container was created.
	h.ShmSize, h.Runtime = cmp.Or(h.ShmSize, info.Spec.ShmSize, defaultShmSize), cmp.Or(h.Runtime, info.Spec.Runtime, "runc")
	h.IpcMode = cmp.Or(h.IpcMode, apicontainer.IpcMode(info.Spec.IpcMode), apicontainer.IPCModePrivate)
	if h.Init == nil {
		h.Init = info.Spec.Init
	}
	if len(h.Ulimits) < len(info.Spec.Ulimits) {
		h.Ulimits = convert.List(info.Spec.Ulimits, convert.ToAPIUlimit)
	}
	if h.CgroupnsMode = cmp.Or(h.CgroupnsMode, apicontainer.CgroupnsMode(info.Spec.CgroupnsMode)); h.CgroupnsMode == "" {
		h.CgroupnsMode = apicontainer.CgroupnsModePrivate
		if !cgroup.V2() {
			h.CgroupnsMode = apicontainer.CgroupnsModeHost
		}
	}
	switch {
	case cgroup.V2():
		h.OomKillDisable = nil // version 2 of cgroups cannot do that
	case h.OomKillDisable == nil:
		h.OomKillDisable = new(bool)
	}
	if h.Privileged || h.PidMode == "host" || h.IpcMode == "host" {
		if !slices.Contains(h.SecurityOpt, "label=disable") {
			h.SecurityOpt = append(h.SecurityOpt, "label=disable")
		}
	}
	if h.Privileged {
		return
	}
	if h.MaskedPaths == nil {
		h.MaskedPaths = security.MaskedPaths()
	}
	if h.ReadonlyPaths == nil {
		h.ReadonlyPaths = security.ReadonlyPaths()
	}
}

// fillDefaults sets what a request has left open to the node's settings of when the container was created.
func fillDefaults(h *apicontainer.HostConfig, s container.Spec) {
	h.LogConfig.Type, h.LogConfig.Config = s.Log.Name, s.Log.Options
	h.ShmSize = cmp.Or(h.ShmSize, s.ShmSize)
	h.IpcMode = cmp.Or(h.IpcMode, apicontainer.IpcMode(s.IpcMode))
	h.CgroupnsMode = cmp.Or(h.CgroupnsMode, apicontainer.CgroupnsMode(s.CgroupnsMode))
	if len(h.Ulimits) == 0 {
		for _, u := range s.Ulimits {
			h.Ulimits = append(h.Ulimits, &apicontainer.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
		}
	}
}

// shownLinks is a container's links in Docker's form: "/target:/container/alias".
func shownLinks(info container.Info) []string {
	var out []string
	for _, link := range info.Spec.Network.Links {
		target, alias := splitLink(link)
		out = append(out, "/"+target+":/"+info.Name+"/"+alias)
	}
	return out
}

// requestedMode is a container's network mode as its user named it: that of several networks is the first one's name, that of a task "default".
func requestedMode(info container.Info) string {
	switch mode := info.Spec.Network.Mode; {
	case info.Spec.NetworkMode != "":
		return info.Spec.NetworkMode
	case mode != "networks":
		return mode
	case info.Spec.API == nil || len(info.Spec.Network.Endpoints) == 0:
		return "default"
	}
	return info.Spec.Network.Endpoints[0].Network
}

// toAPICreateRequest makes up the request for a container that was not created through the API, as those of tasks.
func toAPICreateRequest(info container.Info) apicontainer.CreateRequest {
	s := info.Spec
	host := &apicontainer.HostConfig{
		NetworkMode: apicontainer.NetworkMode(requestedMode(info)), AutoRemove: s.AutoRemove, CapAdd: s.CapAdd, CapDrop: s.CapDrop, Privileged: s.Privileged,
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
