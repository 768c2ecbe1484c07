package container

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// systemMounts lists what every container has mounted besides shared memory, as in Docker: the kernel's file systems and terminals. A nil
// writableCgroups is as privileged as the container.
func systemMounts(privileged bool, writableCgroups *bool) []specs.Mount {
	access := func(writable bool) string {
		if writable {
			return "rw"
		}
		return "ro"
	}
	if writableCgroups == nil {
		writableCgroups = &privileged
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access(privileged)}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{access(*writableCgroups), "nosuid", "noexec", "nodev"}},
	}
}

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
