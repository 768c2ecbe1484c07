package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
)

// features is what the kernel can do for containers.
type features struct {
	swapLimit, oomKillDisable, forwarding bool
	securityOptions                       []string
}

func kernelFeatures() features {
	f := features{oomKillDisable: !cgroup.V2(), securityOptions: []string{"name=seccomp,profile=builtin"}}
	pattern := "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
	if cgroup.V2() {
		pattern = "/sys/fs/cgroup/*/memory.swap.max" // the root has none
	}
	found, err := filepath.Glob(pattern)
	f.swapLimit = err == nil && len(found) > 0
	on, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	f.forwarding = err == nil && strings.TrimSpace(string(on)) == "1"
	if _, err := os.Stat("/proc/self/ns/cgroup"); err == nil {
		f.securityOptions = append(f.securityOptions, "name=cgroupns")
	}
	return f
}

// openFiles is how many files this process has open; -1 if the kernel does not tell.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// osVersion is the distribution's version, from os-release(5).
func osVersion() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_ID=")
		if !ok {
			continue
		}
		if unquoted, err := strconv.Unquote(value); err == nil {
			return unquoted
		}
		return value
	}
	return ""
}
