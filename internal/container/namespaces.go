package container

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
)

// containerMode begins a mode that names another container, whose namespace is joined.
const containerMode = "container:"

// linuxNamespaces lists the namespaces that a container gets of its own and those of others that it joins, but for the network's, which addSandbox
// adds. As in Docker, a cgroup namespace is the default on hosts with cgroup version 2 only.
func (e *Engine) linuxNamespaces(s Spec) ([]specs.LinuxNamespace, error) {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, shared := range []struct {
		mode, file, name string
		kind             specs.LinuxNamespaceType
	}{{s.PidMode, "pid", "PID", specs.PIDNamespace}, {s.IpcMode, "ipc", "IPC", specs.IPCNamespace}} {
		ref, join := strings.CutPrefix(shared.mode, containerMode)
		switch {
		case join:
			donor, err := e.donor(ref)
			if err != nil {
				return nil, fmt.Errorf("failed to join %s namespace: %w", shared.name, err)
			}
			ns = append(ns, specs.LinuxNamespace{Type: shared.kind, Path: fmt.Sprintf("/proc/%d/ns/%s", donor.State.PID, shared.file)})
		case shared.mode != "host":
			ns = append(ns, specs.LinuxNamespace{Type: shared.kind})
		}
	}
	if s.UTSMode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if s.CgroupnsMode == "private" || s.CgroupnsMode == "" && cgroup.V2() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns, nil
}

// donor is the record of a container whose namespace is to be joined, which must run.
func (e *Engine) donor(ref string) (Info, error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return info, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	if !running(info.State.Status) {
		return info, notRunning(info)
	}
	return info, nil
}

// resolveModes replaces the names of other containers in a spec's modes by their IDs, which they keep.
func (e *Engine) resolveModes(s *Spec) error {
	for _, mode := range []*string{&s.PidMode, &s.IpcMode} {
		ref, ok := strings.CutPrefix(*mode, containerMode)
		if !ok {
			continue
		}
		info, err := e.Inspect(ref)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		*mode = containerMode + info.ID
	}
	return nil
}

// sysctls returns what is set of the kernel in a container's namespaces. Its own network lets every user ping and listen on any port, as Docker's does, unless
// the user asked for something else.
func sysctls(s Spec) map[string]string {
	all := map[string]string{}
	if s.Network.Mode != "host" && !strings.HasPrefix(s.Network.Mode, containerMode) {
		for name, value := range map[string]string{"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"} {
			if _, err := os.Stat(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))); err == nil {
				all[name] = value
			}
		}
	}
	maps.Copy(all, s.Sysctls)
	return all
}
