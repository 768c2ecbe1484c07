package security

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setSeccomp sets a filter of system calls: Docker's, none, or a profile.
func setSeccomp(spec *specs.Spec, asked string) error {
	switch asked {
	case "unconfined":
		return nil
	case "", "builtin":
	default:
		profile, err := seccomp.LoadProfile(asked, spec)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		spec.Linux.Seccomp = profile
		return nil
	}
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return fmt.Errorf("make seccomp profile: %w", err)
	}
	if !kernelHasX32() {
		profile.Architectures = slices.DeleteFunc(profile.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	}
	spec.Linux.Seccomp = profile
	return nil
}

// kernelHasX32 reports whether the kernel may have the system calls of x32 (64-bit programs with 32-bit pointers). It is false only if
// the kernel's configuration says so. The default profile then leaves them out: to compile rules that can never match takes a fifth of
// the time that the OCI runtime needs to start a container.
var kernelHasX32 = sync.OnceValue(func() bool { //nolint:gochecknoglobals // asked once
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	release := unix.ByteSliceToString(name.Release[:])
	for _, path := range []string{"/proc/config.gz", "/boot/config-" + release, "/lib/modules/" + release + "/config"} {
		if config, err := os.Open(path); err == nil { // #nosec G304 -- where kernels keep their configuration
			defer func() { _ = config.Close() }()
			var text io.Reader = config
			if strings.HasSuffix(path, ".gz") {
				if text, err = gzip.NewReader(config); err != nil {
					return true
				}
			}
			return configuredX32(text)
		}
	}
	return true
})

// configuredX32 reports whether a kernel with this configuration may have x32: false only if the configuration turns it off.
func configuredX32(config io.Reader) bool {
	lines := bufio.NewScanner(config)
	for lines.Scan() {
		if lines.Text() == "# CONFIG_X86_X32_ABI is not set" {
			return false
		}
	}
	return true
}
