package container

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// ociSpec returns the OCI configuration of a container without what sandboxMounts adds.
func (e *Engine) ociSpec(info *Info, root []mount.Mount) (*specs.Spec, error) {
	s := info.Spec
	user, err := findUser(layerDirs(root), info.User, s.GroupAdd)
	if err != nil {
		return nil, err
	}
	process := &specs.Process{
		Terminal: s.TTY, User: user, Cwd: cmp.Or(info.WorkingDir, "/"),
		Args: append([]string{info.Path}, info.Args...), Env: processEnv(info, user, root),
		NoNewPrivileges: securityFlag(s.SecurityOpt, "no-new-privileges"),
	}
	if s.OomScoreAdj != 0 {
		process.OOMScoreAdj = &s.OomScoreAdj
	}
	for _, u := range s.Ulimits {
		process.Rlimits = append(process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	caps, err := capabilities(s)
	if err != nil {
		return nil, err
	}
	setCapabilities(process, caps)
	spec := &specs.Spec{
		Version: specs.Version, Process: process, Hostname: s.Hostname, Domainname: s.Domainname,
		Root:   &specs.Root{Path: "rootfs", Readonly: s.ReadOnly},
		Mounts: systemMounts(s),
		Linux: &specs.Linux{
			CgroupsPath: e.cgroupPath(*info),
			Namespaces:  linuxNamespaces(s),
			Resources:   linuxResources(s.Resources),
			Sysctl:      s.Sysctls,
		},
	}
	if s.UTSMode == "host" {
		spec.Hostname, spec.Domainname = "", ""
	}
	if err := addDevices(spec, s); err != nil {
		return nil, err
	}
	if !s.Privileged {
		spec.Linux.MaskedPaths = slices.Clone(maskedPaths)
		spec.Linux.ReadonlyPaths = slices.Clone(readonlyPaths)
		if err := addSeccomp(spec, s.SecurityOpt); err != nil {
			return nil, err
		}
	}
	if err := e.userMounts(spec, info); err != nil {
		return nil, err
	}
	return spec, e.addInit(spec, s)
}

// initPath is the path of the init program in a container that runs with one.
const initPath = "/sbin/docker-init"

// addInit runs the container's command under an init. In the host's PID namespace the host's init does that work.
func (e *Engine) addInit(spec *specs.Spec, s Spec) error {
	if !s.Init || s.PidMode == "host" {
		return nil
	}
	program, ok := e.Runtime.Init()
	if !ok {
		return errdefs.ErrNotImplemented.WithMessage("no init program: shoal was built without its shim")
	}
	spec.Process.Args = append([]string{initPath, "--"}, spec.Process.Args...)
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: initPath, Type: "bind", Source: program, Options: []string{"bind", "ro"}})
	return nil
}

func processEnv(info *Info, user specs.User, root []mount.Mount) []string {
	env := slices.Clone(info.Env)
	missing := func(name string) bool {
		return !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	if missing("HOSTNAME") {
		env = append(env, "HOSTNAME="+info.Spec.Hostname)
	}
	if info.Spec.TTY && missing("TERM") {
		env = append(env, "TERM=xterm")
	}
	if missing("HOME") {
		home := "/"
		if user.UID == 0 {
			home = "/root"
		} else if h := homeDir(layerDirs(root), user.UID); h != "" {
			home = h
		}
		env = append(env, "HOME="+home)
	}
	return env
}

var maskedPaths = []string{ //nolint:gochecknoglobals // a constant list
	"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
	"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} //nolint:gochecknoglobals // a constant list

func systemMounts(s Spec) []specs.Mount {
	ro := "ro"
	if s.Privileged {
		ro = "rw"
	}
	shm := s.ShmSize
	if shm == 0 {
		shm = 64 << 20
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{ro, "nosuid", "noexec", "nodev"}},
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
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}})
}

func linuxNamespaces(s Spec) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if s.PidMode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if s.IpcMode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	if s.UTSMode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if s.CgroupnsMode == "private" || s.CgroupnsMode == "" && cgroupV2() && !s.Privileged {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

// sandboxMounts adds the network namespace and the sandbox's resolv.conf, hosts and hostname, unless the user mounts their own.
func sandboxMounts(spec *specs.Spec, sandbox shoal.Sandbox) {
	if sandbox.Netns != "" {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: sandbox.Netns})
	}
	for _, f := range []struct{ at, from string }{{"/etc/resolv.conf", sandbox.ResolvConf}, {"/etc/hosts", sandbox.Hosts}, {"/etc/hostname", sandbox.HostnameAt}} {
		own := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == f.at })
		if f.from != "" && !own {
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: f.at, Type: "bind", Source: f.from, Options: []string{"rbind", "rprivate"}})
		}
	}
}

func securityFlag(opts []string, name string) bool {
	return slices.ContainsFunc(opts, func(o string) bool {
		o = strings.Replace(o, ":", "=", 1)
		return o == name || o == name+"=true"
	})
}

var defaultCapabilities = []string{ //nolint:gochecknoglobals // a constant list
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities are the capabilities that the kernel knows and the daemon may give.
var allCapabilities = sync.OnceValue(func() []string { //nolint:gochecknoglobals // asked once
	names := strings.Fields("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE")
	var caps []string
	for n, name := range names { // the order is the kernel's
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && has == 1 {
			caps = append(caps, "CAP_"+name)
		}
	}
	return caps
})

func capabilities(s Spec) ([]string, error) {
	if s.Privileged {
		return allCapabilities(), nil
	}
	canonical := func(name string) (string, error) {
		name = strings.ToUpper(name)
		if name == "ALL" {
			return name, nil
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(allCapabilities(), name) {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid capability: %q", name))
		}
		return name, nil
	}
	caps := slices.Clone(defaultCapabilities)
	for _, name := range s.CapDrop {
		c, err := canonical(name)
		if err != nil {
			return nil, err
		}
		caps = slices.DeleteFunc(caps, func(have string) bool { return c == "ALL" || have == c })
	}
	for _, name := range s.CapAdd {
		c, err := canonical(name)
		if err != nil {
			return nil, err
		}
		if c == "ALL" {
			caps = slices.Clone(allCapabilities())
		} else if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

func setCapabilities(p *specs.Process, caps []string) {
	p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	if p.User.UID != 0 {
		p.Capabilities.Permitted, p.Capabilities.Effective = nil, nil
	}
}

// addDevices allows access to the devices that every container has and to those that the user asked for.
func addDevices(spec *specs.Spec, s Spec) error {
	allow := func(kind string, major, minor int64, access string) {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, d)
	}
	if s.Privileged {
		allow("a", -1, -1, "rwm")
		return hostDevices(spec)
	}
	spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"})
	allow("c", -1, -1, "m")
	allow("b", -1, -1, "m")
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {5, 0}, {1, 9}, {1, 8}, {136, -1}, {5, 2}} {
		allow("c", d[0], d[1], "rwm")
	}
	for _, d := range s.Devices {
		node, err := deviceNode(d.Host, cmp.Or(d.Container, d.Host))
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("error gathering device information while adding custom device %q: %v", d.Host, err))
		}
		spec.Linux.Devices = append(spec.Linux.Devices, node)
		allow(node.Type, node.Major, node.Minor, cmp.Or(d.Permissions, "rwm"))
	}
	return nil
}

func deviceNode(host, at string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	d := specs.LinuxDevice{Path: at, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, fmt.Errorf("not a device node")
	}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode, d.UID, d.GID = &mode, &st.Uid, &st.Gid
	return d, nil
}

// hostDevices gives a privileged container the device nodes directly under the host's /dev.
func hostDevices(spec *specs.Spec) error {
	list, err := os.ReadDir("/dev")
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, entry := range list {
		name := entry.Name()
		if entry.Type()&os.ModeDevice == 0 || slices.Contains([]string{"console", "ptmx"}, name) {
			continue
		}
		if d, err := deviceNode(filepath.Join("/dev", name), "/dev/"+name); err == nil {
			spec.Linux.Devices = append(spec.Linux.Devices, d)
		}
	}
	return nil
}
