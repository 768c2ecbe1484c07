package agent

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// spec is the container that a task asks for.
func (e *Engine) spec(task *shoal.Task, deps Dependencies) (container.Spec, error) {
	c := task.Spec.Container
	if c == nil {
		return container.Spec{}, fmt.Errorf("task %s has no container", task.ID)
	}
	expand := e.expander(task)
	spec := container.Spec{
		Image: c.Image, User: c.User, GroupAdd: c.Groups, WorkingDir: c.Dir, Entrypoint: c.Command, Cmd: c.Args,
		Labels: e.labels(task), StopSignal: c.StopSignal, TTY: c.TTY, OpenStdin: c.OpenStdin, Healthcheck: c.Healthcheck,
		ReadOnly: c.ReadOnly, Sysctls: c.Sysctls, Ulimits: c.Ulimits, CapAdd: c.CapabilityAdd, CapDrop: c.CapabilityDrop,
		Init: c.Init, OomScoreAdj: int(c.OomScoreAdj), SecurityOpt: securityOptions(c.Privileges),
		Log: logDriver(task), Resources: resources(task.Spec.Resources), Expendable: true,
	}
	if len(spec.Entrypoint) == 0 {
		spec.Entrypoint = nil
	}
	if c.StopGracePeriod != nil {
		spec.StopTimeout = max(*c.StopGracePeriod, time.Nanosecond) // 0 is none, not the default
	}
	var err error
	if spec.Hostname, err = expand(c.Hostname); err != nil {
		return spec, err
	}
	for _, env := range c.Env {
		if env, err = expand(env); err != nil {
			return spec, err
		}
		spec.Env = append(spec.Env, env)
	}
	for _, m := range c.Mounts {
		if m.Source, err = expand(m.Source); err != nil {
			return spec, err
		}
		if m.Target, err = expand(m.Target); err != nil {
			return spec, err
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	if spec.Files, err = files(c, deps, e.payloadExpander(task, deps, spec.Env)); err != nil {
		return spec, err
	}
	spec.Network, err = sandbox(task, deps)
	return spec, err
}

func (e *Engine) labels(task *shoal.Task) map[string]string {
	labels := maps.Clone(task.Spec.Container.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelNodeID] = string(task.NodeID)
	labels[labelServiceID] = string(task.ServiceID)
	labels[labelServiceName] = task.ServiceName
	labels[labelTask] = ""
	labels[labelTaskID] = string(task.ID)
	labels[labelTaskName] = task.Name()
	return labels
}

func logDriver(task *shoal.Task) shoal.Driver {
	if d := task.LogDriver(); d != nil {
		return *d
	}
	return shoal.Driver{}
}

func resources(r *shoal.ResourceRequirements) container.Resources {
	var out container.Resources
	if r == nil {
		return out
	}
	if r.Limits != nil {
		out.Memory, out.NanoCPUs, out.Pids = r.Limits.MemoryBytes, r.Limits.NanoCPUs, r.Limits.Pids
	}
	if r.Reservations != nil {
		out.MemoryReservation = r.Reservations.MemoryBytes
	}
	if s := r.MemorySwappiness; s != nil && *s >= 0 {
		out.Swappiness = s // the engine leaves it out where the kernel knows none
	}
	if r.SwapBytes != nil {
		switch {
		case *r.SwapBytes < 0:
			out.MemorySwap = -1
		case out.Memory > 0:
			out.MemorySwap = out.Memory + *r.SwapBytes
		}
	}
	return out
}

func securityOptions(p *shoal.Privileges) []string {
	if p == nil {
		return nil
	}
	var out []string
	if p.NoNewPrivileges {
		out = append(out, "no-new-privileges:true")
	}
	switch p.SeccompMode {
	case "unconfined":
		out = append(out, "seccomp=unconfined")
	case "custom":
		out = append(out, "seccomp="+string(p.SeccompProfile))
	}
	if p.AppArmorMode == "disabled" {
		out = append(out, "apparmor=unconfined")
	}
	return out
}

// sandbox is the networking that the task asks for.
func sandbox(task *shoal.Task, deps Dependencies) (shoal.SandboxSpec, error) {
	s := shoal.SandboxSpec{TaskID: task.ID, ServiceID: task.ServiceID, Mode: "bridge", ExtraHosts: extraHosts(task.Spec.Container.Hosts)}
	if dns := task.Spec.Container.DNS; dns != nil {
		s.DNS = *dns
	}
	for _, n := range task.Networks {
		if len(n.Addresses) == 0 {
			continue
		}
		ip4, ip6 := n.Prefixes()
		if !ip4.IsValid() {
			return s, fmt.Errorf("no IPv4 address on network %s among %q", n.NetworkID, n.Addresses)
		}
		s.Mode = "networks"
		if deps.Networks[n.NetworkID].Spec.Ingress {
			s.IngressAddr, s.IngressAddr6 = ip4, ip6
			continue
		}
		s.Endpoints = append(s.Endpoints, shoal.EndpointRequest{Network: string(n.NetworkID), Addr: ip4.Addr(), Addr6: ip6.Addr(), Aliases: n.Aliases,
			DriverOpts: driverOptions(task.Spec.Networks, n.NetworkID)})
	}
	if mode := nodeNetwork(task.Spec.Networks); mode != "" {
		s.Mode = mode
	}
	var err error
	s.Ports, err = hostPorts(task)
	return s, err
}

// nodeNetwork is the network that every node has of its own and that the task asks for; empty for none. The API has seen to it that it asks for no other
// besides.
func nodeNetwork(asked []shoal.NetworkAttachmentSpec) string {
	for _, a := range asked {
		if shoal.IsNodeNetwork(a.Target) {
			return a.Target
		}
	}
	return ""
}

// driverOptions is those that the task asks for on a network.
func driverOptions(asked []shoal.NetworkAttachmentSpec, id shoal.NetworkID) map[string]string {
	for _, a := range asked {
		if a.Target == string(id) {
			return a.DriverOpts
		}
	}
	return nil
}

// hostPorts is the task's ports in host mode, one for each address that it is to be published on.
func hostPorts(task *shoal.Task) ([]shoal.PortBinding, error) {
	if task.EndpointSpec == nil {
		return nil, nil
	}
	rules, err := shoal.PublishRules(task.Labels, task.EndpointSpec.Ports)
	if err != nil {
		return nil, err
	}
	var out []shoal.PortBinding
	for _, p := range task.Ports {
		if p.Mode != shoal.PublishHost {
			continue
		}
		b := shoal.PortBinding{Protocol: p.Protocol, Target: p.Target, HostPort: p.Published}
		if len(rules[p].HostIPs) == 0 {
			out = append(out, b)
		}
		for _, b.HostIP = range rules[p].HostIPs {
			out = append(out, b)
		}
	}
	return out, nil
}

// extraHosts turns lines of hosts(5) into "name:IP".
func extraHosts(lines []string) []string {
	var out []string
	for _, line := range lines {
		fields := strings.Fields(line)
		for i := 1; i < len(fields); i++ {
			out = append(out, fields[i]+":"+fields[0])
		}
	}
	return out
}

// expander fills in Docker's templates.
func (e *Engine) expander(task *shoal.Task) func(string) (string, error) { return e.facts(task).Expand }

// facts is what templates can refer to.
func (e *Engine) facts(task *shoal.Task) shoal.TemplateFacts {
	var f shoal.TemplateFacts
	f.Service.ID, f.Service.Name, f.Service.Labels = string(task.ServiceID), task.ServiceName, task.Labels
	f.Node.ID, f.Node.Hostname = string(task.NodeID), e.Node.Hostname
	f.Node.Platform.Architecture, f.Node.Platform.OS = e.Node.Platform.Architecture, e.Node.Platform.OS
	f.Task.ID, f.Task.Name, f.Task.Slot = string(task.ID), task.Name(), fmt.Sprint(task.Slot)
	if task.Slot == 0 {
		f.Task.Slot = string(task.NodeID)
	}
	return f
}
