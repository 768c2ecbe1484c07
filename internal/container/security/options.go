package security

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Restrict hides the kernel's files that containers must not see, makes others read-only and sets the filter of system calls that the
// security options ask for, Docker's by default. It is not for privileged containers. A profile that cannot be read is an invalid
// argument.
func Restrict(spec *specs.Spec, options []string) error {
	// The lists are Docker's.
	spec.Linux.MaskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	spec.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	return setSeccomp(spec, options)
}

// NoNewPrivileges reports whether the security options forbid the container's processes to gain privileges by executing a program.
func NoNewPrivileges(options []string) bool {
	const name = "no-new-privileges"
	return slices.ContainsFunc(options, func(o string) bool {
		o = withEqualSign(o)
		return o == name || o == name+"=true"
	})
}

// withEqualSign writes an option in the form "name=value"; Docker still takes the older form "name:value".
func withEqualSign(option string) string { return strings.Replace(option, ":", "=", 1) }
