package container

import (
	"cmp"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
	"github.com/shoal-dev/shoal/internal/container/layers"
	"github.com/shoal-dev/shoal/internal/container/security"
)

// ociSpec returns the OCI configuration of a container without what addSandbox adds. It mounts the container's volumes and writes the
// files of its secrets and configs.
func (e *Engine) ociSpec(info *Info, root []mount.Mount) (*specs.Spec, error) {
	s := info.Spec
	process, err := ociProcess(info, layers.Of(root))
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version: specs.Version, Process: process, Hostname: s.Hostname, Domainname: s.Domainname,
		Root:        &specs.Root{Path: "rootfs", Readonly: s.ReadOnly},
		Annotations: s.Annotations,
		Mounts:      systemMounts(s),
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
		if err := security.Restrict(spec, s.SecurityOpt); err != nil {
			return nil, err
		}
	}
	if err := e.addMounts(spec, info); err != nil {
		return nil, err
	}
	return spec, e.addInit(spec, s)
}

// ociProcess returns a container's first process: its command, user, environment, limits and capabilities.
func ociProcess(info *Info, dirs layers.Dirs) (*specs.Process, error) {
	s := info.Spec
	user, err := dirs.FindUser(info.User, s.GroupAdd)
	if err != nil {
		return nil, err
	}
	process := &specs.Process{
		Terminal: s.TTY, User: user, Cwd: cmp.Or(info.WorkingDir, "/"),
		Args: append([]string{info.Path}, info.Args...), Env: processEnv(info, user, dirs),
		NoNewPrivileges: security.NoNewPrivileges(s.SecurityOpt),
	}
	if s.TTY && s.ConsoleSize != [2]uint{} {
		process.ConsoleSize = &specs.Box{Height: s.ConsoleSize[0], Width: s.ConsoleSize[1]}
	}
	process.User.Umask = s.Umask
	if s.OomScoreAdj != 0 {
		process.OOMScoreAdj = &s.OomScoreAdj
	}
	for _, u := range s.Ulimits {
		process.Rlimits = append(process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	caps := security.AllCapabilities()
	if !s.Privileged {
		if caps, err = security.Capabilities(s.CapAdd, s.CapDrop); err != nil {
			return nil, err
		}
	}
	security.SetCapabilities(process, caps)
	return process, nil
}

// initPath is the path of the init program in a container that runs with one.
const initPath = "/sbin/docker-init"

// addInit makes the container's command run as the child of an init program, if its spec asks for one. In the host's PID namespace the
// host's own init does the work.
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

// processEnv is the container's environment with the variables that Docker adds when they are missing.
func processEnv(info *Info, user specs.User, dirs layers.Dirs) []string {
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
		} else if h := dirs.HomeDir(user.UID); h != "" {
			home = h
		}
		env = append(env, "HOME="+home)
	}
	return env
}

// linuxNamespaces lists the namespaces that a container gets of its own, but for the network's, which addSandbox adds. As in Docker, a
// cgroup namespace is the default on hosts with cgroup version 2 only, and not for privileged containers.
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
	if s.CgroupnsMode == "private" || s.CgroupnsMode == "" && cgroup.V2() && !s.Privileged {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}
