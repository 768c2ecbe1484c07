package container

import (
	"cmp"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/container/layers"
	"github.com/shoal-dev/shoal/internal/container/security"
)

// ociSpec returns the OCI configuration of a container without what addSandbox adds. It mounts the container's volumes and writes the
// files of its secrets and configs.
func (e *Engine) ociSpec(info *Info, root []mount.Mount) (*specs.Spec, error) {
	s := info.Spec
	options, err := security.Parse(s.SecurityOpt)
	if err != nil {
		return nil, err
	}
	linked, err := e.linkedEnv(*info)
	if err != nil {
		return nil, err
	}
	ofThisStart := *info
	ofThisStart.Env = mergeEnv(linked, info.Env)
	process, err := ociProcess(&ofThisStart, layers.Of(root))
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version: specs.Version, Process: process, Hostname: s.Hostname, Domainname: s.Domainname, Annotations: s.Annotations,
		Root:  &specs.Root{Path: "rootfs", Readonly: s.ReadOnly},
		Linux: &specs.Linux{CgroupsPath: e.cgroupPath(*info), Sysctl: sysctls(s)},
	}
	if s.UTSMode == "host" {
		spec.Hostname, spec.Domainname = "", ""
	}
	if spec.Linux.Resources, err = linuxResources(s.Resources); err != nil {
		return nil, err
	}
	if spec.Linux.Namespaces, err = e.linuxNamespaces(s); err != nil {
		return nil, err
	}
	shm, err := e.sharedMemory(info)
	if err != nil {
		return nil, err
	}
	spec.Mounts = append(systemMounts(s.Privileged, options.WritableCgroups), shm...)
	if err := addDevices(spec, s); err != nil {
		return nil, err
	}
	if err := security.Restrict(spec, options, s.Privileged, s.MaskedPaths, s.ReadonlyPaths); err != nil {
		return nil, err
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
	}
	options, err := security.Parse(s.SecurityOpt)
	if err != nil {
		return nil, err
	}
	process.NoNewPrivileges, process.User.Umask = options.NoNewPrivileges, s.Umask
	if s.TTY && s.ConsoleSize != [2]uint{} {
		process.ConsoleSize = &specs.Box{Height: s.ConsoleSize[0], Width: s.ConsoleSize[1]}
	}
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

// addInit makes the container's command run as the child of an init program, if its spec, or else the node's setting, asks for one. In the PID namespace of another the
// init there does the work.
func (e *Engine) addInit(spec *specs.Spec, s Spec) error {
	wanted := e.Defaults != nil && e.Defaults().Init
	if s.Init != nil {
		wanted = *s.Init
	}
	if !wanted || s.PidMode != "" && s.PidMode != "private" {
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
