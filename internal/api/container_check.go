package api

import (
	"net/http"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
)

// checkHost refuses what a container would not get: a wish that is taken and not granted is worse than one turned down.
func checkHost(h *apicontainer.HostConfig) error {
	if err := checkModes(h); err != nil {
		return err
	}
	if err := checkAmounts(h.Resources); err != nil {
		return err
	}
	for _, d := range h.DeviceRequests {
		return fail(http.StatusBadRequest, "could not select device driver %q with capabilities: %v", d.Driver, d.Capabilities)
	}
	switch {
	case len(h.DeviceCgroupRules) > 0:
		return unsupported("device cgroup rules")
	case len(h.StorageOpt) > 0:
		return unsupported("storage options")
	case h.Runtime != "" && h.Runtime != "runc" && h.Runtime != "io.containerd.runc.v2":
		return fail(http.StatusBadRequest, "unknown or invalid runtime name: %s", h.Runtime)
	case h.MaskedPaths != nil || h.ReadonlyPaths != nil:
		return unsupported("changing masked or read-only system paths")
	}
	return nil
}

func unsupported(what string) error {
	return fail(http.StatusBadRequest, "%s: not supported by this engine", what)
}

// checkModes knows the namespaces that a container can have or share.
func checkModes(h *apicontainer.HostConfig) error {
	for _, m := range []struct{ name, value, known string }{
		{"PID", string(h.PidMode), "private host"},
		{"IPC", string(h.IpcMode), "none private shareable host"},
		{"UTS", string(h.UTSMode), "private host"},
		{"user namespace", string(h.UsernsMode), "host"},
		{"cgroup namespace", string(h.CgroupnsMode), "private host"},
	} {
		switch {
		case m.value == "" || !strings.Contains(m.value, " ") && strings.Contains(" "+m.known+" ", " "+m.value+" "):
		case strings.HasPrefix(m.value, "container:"):
			return unsupported(m.name + " mode " + m.value)
		default:
			return fail(http.StatusBadRequest, "invalid %s mode: %s", m.name, m.value)
		}
	}
	return nil
}

// checkAmounts knows the limits that are enforced, for new containers and for updates alike.
func checkAmounts(r apicontainer.Resources) error {
	switch {
	case r.MemorySwappiness != nil && *r.MemorySwappiness != -1:
		return unsupported("memory swappiness")
	case len(r.BlkioWeightDevice) > 0:
		return unsupported("block IO weights of devices")
	case len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0:
		return unsupported("block IO limits of devices")
	case r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0:
		return unsupported("CPU real-time scheduling")
	}
	return nil
}
