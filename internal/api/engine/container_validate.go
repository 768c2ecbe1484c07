package engine

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/signal"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container/cgroup"
)

// validateCreate refuses what Docker refuses and settings that would have no effect, so that a user who relies on one learns that it is not supported. It
// returns what the user is to be warned of.
func validateCreate(body *apicontainer.CreateRequest) (warnings []string, err error) {
	if err := validateConfig(body.Config); err != nil {
		return nil, err
	}
	h := body.HostConfig
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return nil, server.BadRequest("can't create 'AutoRemove' container with restart policy")
	}
	for _, validate := range []func(*apicontainer.HostConfig) error{validateMountTargets, validateExtraHosts, validateHostConfig} {
		if err := validate(h); err != nil {
			return nil, err
		}
	}
	if err := validateRestart(h.RestartPolicy); err != nil {
		return nil, err
	}
	warnings, err = validateResources(&h.Resources, false)
	if h.NetworkMode.IsHost() && len(h.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	if ignoresVolumeDriver(h) {
		warnings = append(warnings, "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead")
	}
	return warnings, err
}

// validateConfig checks what belongs to the process, and makes its working directory a clean path.
func validateConfig(c *apicontainer.Config) error {
	if c.WorkingDir != "" {
		if !path.IsAbs(c.WorkingDir) {
			return server.BadRequest("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
		}
		c.WorkingDir = path.Clean(c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return server.BadRequest("%v", err)
		}
	}
	for _, variable := range c.Env {
		if variable == "" || variable[0] == '=' {
			return server.BadRequest("invalid environment variable: %s", variable)
		}
	}
	return validateHealthcheck(c.Healthcheck)
}

func validateHealthcheck(h *apicontainer.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < apicontainer.MinimumDuration {
			return server.BadRequest("%s in Healthcheck cannot be less than %s", d.name, apicontainer.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return server.BadRequest("Retries in Healthcheck cannot be negative")
	}
	return nil
}

func validateRestart(p apicontainer.RestartPolicy) error {
	switch p.Name {
	case "":
	case "no", "always", "unless-stopped":
		switch {
		case p.MaximumRetryCount < 0:
			return server.BadRequest("invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative")
		case p.MaximumRetryCount > 0:
			return server.BadRequest("invalid restart policy: maximum retry count can only be used with 'on-failure'")
		}
	case "on-failure":
		if p.MaximumRetryCount < 0 {
			return server.BadRequest("invalid restart policy: maximum retry count cannot be negative")
		}
	default:
		return server.BadRequest("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", p.Name)
	}
	return nil
}

// validateMountTargets checks where tmpfs are mounted, and that mounts have options of their own type only.
func validateMountTargets(h *apicontainer.HostConfig) error {
	for target := range h.Tmpfs {
		switch {
		case path.Clean(target) == "/":
			return server.BadRequest("invalid specification: destination can't be '/'")
		case !path.IsAbs(target):
			return server.BadRequest("invalid mount path: '%s' mount path must be absolute", target)
		}
	}
	for _, m := range h.Mounts {
		if option := convert.ForeignOption(m); option != "" {
			return server.BadRequest("%s must not be specified on mount type %q", option, m.Type)
		}
		switch m.Type {
		case mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs, mount.TypeImage:
		default:
			return server.BadRequest("invalid mount config for type %q: mount type unknown", m.Type)
		}
		if sub := subpathOf(m); sub != "" && !filepath.IsLocal(sub) {
			return server.BadRequest("invalid mount config for type %q: subpath must be a relative path within the volume", m.Type)
		}
	}
	return nil
}

// subpathOf is the part of a volume or image that is to be mounted; empty for the whole.
func subpathOf(m mount.Mount) string {
	switch {
	case m.VolumeOptions != nil:
		return m.VolumeOptions.Subpath
	case m.ImageOptions != nil:
		return m.ImageOptions.Subpath
	}
	return ""
}

func validateExtraHosts(h *apicontainer.HostConfig) error {
	for _, host := range h.ExtraHosts {
		if name, addr, ok := strings.Cut(host, ":"); !ok || name == "" || addr == "" {
			return server.BadRequest("bad format for add-host: %q", host)
		}
	}
	return nil
}

// ignoresVolumeDriver tells whether a container-wide volume driver is asked for beside mounts of volumes, which have drivers of their own.
func ignoresVolumeDriver(h *apicontainer.HostConfig) bool {
	return h.VolumeDriver != "" && slices.ContainsFunc(h.Mounts, func(m mount.Mount) bool {
		return m.Type == mount.TypeVolume && (m.VolumeOptions == nil || m.VolumeOptions.DriverConfig == nil || m.VolumeOptions.DriverConfig.Name == "")
	})
}

func validateHostConfig(h *apicontainer.HostConfig) error {
	if err := validateNamespaceModes(h); err != nil {
		return err
	}
	for _, d := range h.DeviceRequests {
		return server.BadRequest("could not select device driver %q with capabilities: %v", d.Driver, d.Capabilities)
	}
	switch {
	case h.ShmSize < 0:
		return server.BadRequest("SHM size can not be less than 0")
	case h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000:
		return server.BadRequest("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	case !h.Isolation.IsDefault():
		return server.BadRequest("invalid isolation '%s' on linux", h.Isolation)
	case h.Cgroup != "":
		return unsupported("the cgroup of another container")
	case len(h.StorageOpt) > 0:
		return unsupported("storage options")
	}
	if _, ok := h.Annotations[""]; ok {
		return server.BadRequest("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	return nil
}

func unsupported(what string) error {
	return server.BadRequest("%s: not supported by this engine", what)
}

// validateNamespaceModes refuses namespaces that a container can neither have of its own nor share with the host.
func validateNamespaceModes(h *apicontainer.HostConfig) error {
	for _, m := range []struct {
		name, value string
		supported   []string
	}{
		{"PID", string(h.PidMode), []string{"private", "host"}},
		{"IPC", string(h.IpcMode), []string{"none", "private", "shareable", "host"}},
		{"UTS", string(h.UTSMode), []string{"private", "host"}},
		{"user namespace", string(h.UsernsMode), []string{"host"}},
		{"cgroup namespace", string(h.CgroupnsMode), []string{"private", "host"}},
	} {
		switch {
		case m.value == "" || slices.Contains(m.supported, m.value):
		case strings.HasPrefix(m.value, "container:") && m.value != "container:" && (m.name == "PID" || m.name == "IPC"):
		default:
			return server.BadRequest("invalid %s mode: %s", m.name, m.value)
		}
	}
	return nil
}

// minMemory is the least memory that a container can be limited to, in bytes: Docker's.
const minMemory = 6 << 20

// validateResources refuses limits that contradict each other or are not enforced, for new containers and for updates alike. Limits that the kernel does not
// have are taken away with a warning, as Docker does.
func validateResources(r *apicontainer.Resources, update bool) (warnings []string, err error) {
	warnings = []string{}
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil
	}
	if r.MemorySwappiness != nil && cgroup.V2() {
		warnings = append(warnings, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && cgroup.V2() {
		warnings = append(warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		r.OomKillDisable = nil
	}
	if r.CPUPercent > 0 {
		warnings = append(warnings, "linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	warnings = append(warnings, discardBlockIO(r, cgroup.HasBlockIO)...)
	for _, validate := range []func(*apicontainer.Resources, bool) string{invalidMemory, invalidCPU, invalidIO} {
		if problem := validate(r, update); problem != "" {
			return warnings, server.BadRequest("%s", problem)
		}
	}
	return warnings, nil
}

// invalidMemory is what is wrong with limits of memory, in Docker's words; empty if nothing is.
func invalidMemory(r *apicontainer.Resources, update bool) string {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return "Minimum memory limit allowed is 6MB"
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return "Minimum memoryswap limit should be larger than memory limit, see usage"
	case r.Memory == 0 && r.MemorySwap > 0 && !update:
		return "You should always set the Memory limit when using Memoryswap limit, see usage"
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < 0 || *r.MemorySwappiness > 100):
		return fmt.Sprintf("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return "Minimum memory reservation allowed is 6MB"
	case r.Memory > 0 && r.Memory < r.MemoryReservation:
		return "Minimum memory limit can not be less than memory reservation limit, see usage"
	}
	return ""
}

// invalidIO is what is wrong with limits of block IO, in Docker's words; empty if nothing is.
func invalidIO(r *apicontainer.Resources, _ bool) string {
	switch {
	case r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return "Range of blkio weight is from 10 to 1000"
	case r.IOMaximumBandwidth != 0 || r.IOMaximumIOps != 0:
		return "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
	}
	return ""
}
