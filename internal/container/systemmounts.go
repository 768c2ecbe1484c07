package container

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// systemMounts lists what every container has mounted, as in Docker: the kernel's file systems, terminals and shared memory.
func systemMounts(s Spec) []specs.Mount {
	kernelAccess := "ro"
	if s.Privileged {
		kernelAccess = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", kernelAccess}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{kernelAccess, "nosuid", "noexec", "nodev"}},
	}
	switch s.IpcMode {
	case "none":
		return mounts
	case "host":
		mounts = slices.DeleteFunc(mounts, func(m specs.Mount) bool { return m.Destination == "/dev/mqueue" })
		return append(mounts,
			specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind"}},
			specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind"}})
	}
	return append(mounts, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", cmp.Or(s.ShmSize, defaultShmSize))}})
}

const defaultShmSize = 64 << 20 // bytes, Docker's

// addSandbox adds the sandbox's network namespace and its resolv.conf, hosts and hostname. A file at whose path the user mounts
// something is left out.
func addSandbox(spec *specs.Spec, sandbox shoal.Sandbox) {
	if sandbox.Netns != "" {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: sandbox.Netns})
	}
	for _, f := range []struct{ at, from string }{{"/etc/resolv.conf", sandbox.ResolvConf}, {"/etc/hosts", sandbox.Hosts}, {"/etc/hostname", sandbox.HostnameAt}} {
		taken := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == f.at })
		if f.from != "" && !taken {
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: f.at, Type: "bind", Source: f.from, Options: []string{"rbind", "rprivate"}})
		}
	}
}
