package security

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Options are a container's security options.
type Options struct {
	NoNewPrivileges bool   // its processes gain no privileges by executing a program
	Seccomp         string // a profile of system calls as JSON, or "unconfined"; "" and "builtin" are Docker's
	AppArmor        string // the name of a profile that the kernel has; "" for none
	WritableCgroups *bool  // nil: as privileged as the container
}

// Parse reads security options as Docker does: "name=value", and still the older "name:value". One that means nothing is an invalid argument in
// Docker's words. Labels are for SELinux, which the engine leaves alone.
func Parse(options []string) (Options, error) {
	var o Options
	for _, text := range options {
		separator := "="
		if !strings.Contains(text, separator) { // a value may have colons of its own
			separator = ":"
		}
		name, value, hasValue := strings.Cut(text, separator)
		flag, err := strconv.ParseBool(value)
		if !hasValue {
			flag, err = true, nil
		}
		refused := ""
		switch {
		case name == "no-new-privileges":
			o.NoNewPrivileges = flag
		case name == "writable-cgroups":
			o.WritableCgroups = &flag
		case !hasValue:
			err = nil
			if name != "disable" {
				refused = "1"
			}
		case name == "seccomp":
			o.Seccomp, err = value, nil
		case name == "apparmor":
			o.AppArmor, err = value, nil
		case name == "label":
			err = nil
		default:
			refused = "2"
		}
		if err != nil {
			refused = "2"
		}
		if refused != "" {
			return o, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid --security-opt %s: %q", refused, text))
		}
	}
	return o, nil
}

// Restrict hides the kernel's files that containers must not see, makes others read-only and sets the filter of system calls and the AppArmor
// profile that the options ask for, Docker's filter by default. A privileged container has only what is asked for. Nil paths are Docker's. A profile that
// cannot be read is an invalid argument.
func Restrict(spec *specs.Spec, o Options, privileged bool, masked, readonly []string) error {
	if o.AppArmor != "" && appArmorEnabled() {
		spec.Process.ApparmorProfile = o.AppArmor
	}
	if privileged {
		if o.Seccomp == "" {
			return nil
		}
		return setSeccomp(spec, o.Seccomp)
	}
	if masked == nil {
		masked = MaskedPaths()
	}
	if readonly == nil {
		readonly = ReadonlyPaths()
	}
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = masked, readonly
	return setSeccomp(spec, o.Seccomp)
}

// MaskedPaths is the kernel's files that containers do not see. The list is Docker's. What the processors tell of their temperature is there once for each.
func MaskedPaths() []string {
	paths := []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle") // fails only for a malformed pattern
	return append(paths, thermal...)
}

// ReadonlyPaths is the kernel's files that containers can only read. The list is Docker's.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// appArmorEnabled reports whether the kernel applies AppArmor profiles.
func appArmorEnabled() bool {
	_, err := os.Stat("/sys/kernel/security/apparmor")
	enabled, readErr := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return errors.Join(err, readErr) == nil && strings.HasPrefix(string(enabled), "Y")
}
