// Package security says what the processes of a container may do, as Docker does by default and by options: capabilities, system calls
// and which files of the kernel they see. It reads the kernel's configuration; it writes nothing.
package security

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultCapabilities are Docker's.
var defaultCapabilities = []string{ //nolint:gochecknoglobals // a constant list
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// AllCapabilities returns the capabilities that the kernel knows and the daemon itself may have. Callers must not change it.
var AllCapabilities = sync.OnceValue(func() []string { //nolint:gochecknoglobals // asked once
	names := strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
		NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
		SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
		MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)
	var caps []string
	for number, name := range names { // in the order of the kernel's numbers (include/uapi/linux/capability.h)
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0); err == nil && has == 1 {
			caps = append(caps, "CAP_"+name)
		}
	}
	return caps
})

// Capabilities returns Docker's default capabilities without those to drop and with those to add, in the kernel's names. Names are
// accepted in upper and lower case, with and without "CAP_"; "ALL" is every one. A name that the kernel does not know is an invalid
// argument.
func Capabilities(add, drop []string) ([]string, error) {
	caps := slices.Clone(defaultCapabilities)
	for _, name := range drop {
		c, err := canonicalName(name)
		if err != nil {
			return nil, err
		}
		caps = slices.DeleteFunc(caps, func(have string) bool { return c == allNames || have == c })
	}
	for _, name := range add {
		c, err := canonicalName(name)
		if err != nil {
			return nil, err
		}
		if c == allNames {
			caps = slices.Clone(AllCapabilities())
		} else if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// allNames is how a user names every capability.
const allNames = "ALL"

// canonicalName is the kernel's name of a capability that a user wrote, or allNames.
func canonicalName(name string) (string, error) {
	name = strings.ToUpper(name)
	if name == allNames {
		return name, nil
	}
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	if !slices.Contains(AllCapabilities(), name) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid capability: %q", name))
	}
	return name, nil
}

// SetCapabilities gives a process capabilities. One that does not run as root only has them as a limit: it gets them when it executes a
// program that is marked to get them.
func SetCapabilities(p *specs.Process, caps []string) {
	p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	if p.User.UID != 0 {
		p.Capabilities.Permitted, p.Capabilities.Effective = nil, nil
	}
}
