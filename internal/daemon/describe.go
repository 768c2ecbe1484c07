package daemon

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/daemon/config"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// describe describes the machine that the node runs on.
func describe(c *config.Config) shoal.NodeDescription {
	hostname, _ := os.Hostname() // a machine whose name cannot be read is described without one
	d := shoal.NodeDescription{
		Hostname:      hostname,
		Platform:      shoal.Platform{OS: runtime.GOOS, Architecture: machine()},
		Resources:     shoal.Resources{NanoCPUs: int64(runtime.NumCPU()) * 1e9, MemoryBytes: memory(), Generic: genericResources(c.GenericResources)},
		EngineVersion: c.Version,
		EngineLabels:  c.EngineLabels(),
	}
	for kind, names := range plugins() {
		for _, name := range names {
			d.Plugins = append(d.Plugins, shoal.Plugin{Type: kind, Name: name})
		}
	}
	return d
}

// plugins is the drivers that the node has, by the kinds that Docker lists.
func plugins() map[string][]string {
	return map[string][]string{
		"Volume":  {"local"},
		"Network": {"bridge", "host", "ipvlan", "macvlan", "null", "overlay"},
		"Log":     container.LogDrivers(),
	}
}

// machine is the kernel's name of the processor architecture, such as "x86_64", which Docker shows.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// kernelVersion is the kernel's release, such as "6.12.0"; empty if it cannot be read.
func kernelVersion() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// memory is the size of the machine's memory in bytes; 0 if it cannot be read.
func memory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) // #nosec G115 -- no machine has 2^63 bytes
}

// osName is the distribution's name, from os-release(5).
func osName() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return runtime.GOOS
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if name, err := strconv.Unquote(value); err == nil {
				return name
			}
			return value
		}
	}
	return runtime.GOOS
}
