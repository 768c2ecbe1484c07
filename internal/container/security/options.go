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
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = MaskedPaths(), ReadonlyPaths()
	return setSeccomp(spec, options)
}

// MaskedPaths is the kernel's files that containers do not see. The list is Docker's.
func MaskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

// ReadonlyPaths is the kernel's files that containers can only read. The list is Docker's.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
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
