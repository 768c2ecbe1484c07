package engine

import (
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
)

// validateHostConfig refuses settings that would have no effect, so that a user who relies on one learns that it is not supported.
func validateHostConfig(h *apicontainer.HostConfig) error {
	if err := validateNamespaceModes(h); err != nil {
		return err
	}
	if err := validateResources(h.Resources); err != nil {
		return err
	}
	for _, d := range h.DeviceRequests {
		return server.BadRequest("could not select device driver %q with capabilities: %v", d.Driver, d.Capabilities)
	}
	switch {
	case len(h.StorageOpt) > 0:
		return unsupported("storage options")
	case h.Runtime != "" && h.Runtime != "runc" && h.Runtime != "io.containerd.runc.v2":
		return server.BadRequest("unknown or invalid runtime name: %s", h.Runtime)
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

// validateResources refuses limits that are not enforced, for new containers and for updates alike.
func validateResources(r apicontainer.Resources) error {
	switch {
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return server.BadRequest("Invalid value: %d, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0:
		return server.BadRequest("Your kernel does not support CPU real-time scheduler")
	}
	return nil
}
