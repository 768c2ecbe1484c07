package cluster

import (
	"os"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func toAPIContainerSpec(c *shoal.ContainerSpec) *swarm.ContainerSpec {
	if c == nil {
		return nil
	}
	out := &swarm.ContainerSpec{
		Image: c.Image, Labels: c.Labels, Command: c.Command, Args: c.Args, Hostname: c.Hostname, Env: c.Env, Dir: c.Dir,
		User: c.User, Groups: c.Groups, Privileges: toAPIPrivileges(c.Privileges), Init: c.Init, StopSignal: c.StopSignal, TTY: c.TTY,
		OpenStdin: c.OpenStdin, ReadOnly: c.ReadOnly, Mounts: convert.List(c.Mounts, convert.ToAPIMount), StopGracePeriod: c.StopGracePeriod,
		Hosts: c.Hosts, Secrets: convert.List(c.Secrets, toAPISecretReference), Configs: convert.List(c.Configs, toAPIConfigReference),
		Isolation: container.IsolationDefault, Sysctls: c.Sysctls, CapabilityAdd: c.CapabilityAdd,
		CapabilityDrop: c.CapabilityDrop, OomScoreAdj: c.OomScoreAdj,
		Ulimits: convert.List(c.Ulimits, convert.ToAPIUlimit), Healthcheck: convert.ToAPIHealthcheck(c.Healthcheck),
	}
	if d := c.DNS; d != nil {
		out.DNSConfig = &swarm.DNSConfig{Nameservers: d.Nameservers, Search: d.Search, Options: d.Options}
	}
	return out
}

func fromAPIContainerSpec(c *swarm.ContainerSpec) (*shoal.ContainerSpec, error) {
	if c == nil {
		return nil, nil
	}
	if slices.Contains(c.Ulimits, nil) || slices.Contains(c.Secrets, nil) || slices.Contains(c.Configs, nil) {
		return nil, server.BadRequest("invalid ContainerSpec: null in a list")
	}
	out := &shoal.ContainerSpec{
		Image: c.Image, Labels: c.Labels, Command: c.Command, Args: c.Args, Hostname: c.Hostname, Env: c.Env, Dir: c.Dir,
		User: c.User, Groups: c.Groups, Privileges: fromAPIPrivileges(c.Privileges), Init: c.Init, StopSignal: c.StopSignal, TTY: c.TTY,
		OpenStdin: c.OpenStdin, ReadOnly: c.ReadOnly, Mounts: convert.List(c.Mounts, convert.FromAPIMount), StopGracePeriod: c.StopGracePeriod,
		Hosts: c.Hosts, Sysctls: c.Sysctls, CapabilityAdd: c.CapabilityAdd,
		CapabilityDrop: c.CapabilityDrop, OomScoreAdj: c.OomScoreAdj,
		Ulimits: convert.List(c.Ulimits, convert.FromAPIUlimit), Healthcheck: convert.FromAPIHealthcheck(c.Healthcheck),
	}
	if c.Isolation != container.IsolationEmpty && c.Isolation != container.IsolationDefault {
		return nil, server.BadRequest("invalid isolation mode: %q: a Linux node runs containers with the default one only", c.Isolation)
	}
	for _, m := range c.Mounts {
		switch m.Type {
		case mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs:
		default:
			return nil, server.BadRequest("invalid MountType: %q", m.Type)
		}
		if option := convert.ForeignOption(m); option != "" {
			return nil, server.BadRequest("%s must not be specified on mount type %q", option, m.Type)
		}
	}
	for _, s := range c.Secrets {
		if s.File == nil {
			return nil, server.BadRequest("invalid SecretReference %s, no target specified", s.SecretName)
		}
		out.Secrets = append(out.Secrets, shoal.SecretReference{
			ID: shoal.SecretID(s.SecretID), Name: s.SecretName, Target: s.File.Name, UID: s.File.UID, GID: s.File.GID, Mode: uint32(s.File.Mode),
		})
	}
	for _, s := range c.Configs {
		ref := shoal.ConfigReference{ID: shoal.ConfigID(s.ConfigID), Name: s.ConfigName, Runtime: s.Runtime != nil}
		if s.File != nil {
			ref.Target, ref.UID, ref.GID, ref.Mode = s.File.Name, s.File.UID, s.File.GID, uint32(s.File.Mode)
		} else if s.Runtime == nil {
			return nil, server.BadRequest("invalid ConfigReference %s, no target specified", s.ConfigName)
		}
		out.Configs = append(out.Configs, ref)
	}
	if d := c.DNSConfig; d != nil {
		out.DNS = &shoal.DNSConfig{Nameservers: d.Nameservers, Search: d.Search, Options: d.Options}
	}
	return out, nil
}

func toAPISecretReference(r shoal.SecretReference) *swarm.SecretReference {
	return &swarm.SecretReference{SecretID: string(r.ID), SecretName: r.Name, File: &swarm.SecretReferenceFileTarget{
		Name: r.Target, UID: r.UID, GID: r.GID, Mode: os.FileMode(r.Mode),
	}}
}

func toAPIConfigReference(r shoal.ConfigReference) *swarm.ConfigReference {
	out := &swarm.ConfigReference{ConfigID: string(r.ID), ConfigName: r.Name}
	if r.Runtime {
		out.Runtime = &swarm.ConfigReferenceRuntimeTarget{}
	} else {
		out.File = &swarm.ConfigReferenceFileTarget{Name: r.Target, UID: r.UID, GID: r.GID, Mode: os.FileMode(r.Mode)}
	}
	return out
}

// The keys under which the settings of SELinux and credential specs are kept.
const (
	keyDisable, keyUser, keyRole, keyType, keyLevel = "disable", "user", "role", "type", "level"
	keyConfig, keyFile, keyRegistry                 = "config", "file", "registry"
)

func toAPIPrivileges(p *shoal.Privileges) *swarm.Privileges {
	if p == nil {
		return nil
	}
	out := &swarm.Privileges{NoNewPrivileges: p.NoNewPrivileges}
	if p.SeccompMode != "" || len(p.SeccompProfile) > 0 {
		out.Seccomp = &swarm.SeccompOpts{Mode: swarm.SeccompMode(p.SeccompMode), Profile: p.SeccompProfile}
	}
	if p.AppArmorMode != "" {
		out.AppArmor = &swarm.AppArmorOpts{Mode: swarm.AppArmorMode(p.AppArmorMode)}
	}
	if s := p.SELinux; s != nil {
		out.SELinuxContext = &swarm.SELinuxContext{
			Disable: s[keyDisable] == strconv.FormatBool(true), User: s[keyUser], Role: s[keyRole], Type: s[keyType], Level: s[keyLevel],
		}
	}
	if c := p.CredentialSpec; c != nil {
		out.CredentialSpec = &swarm.CredentialSpec{Config: c[keyConfig], File: c[keyFile], Registry: c[keyRegistry]}
	}
	return out
}

func fromAPIPrivileges(p *swarm.Privileges) *shoal.Privileges {
	if p == nil {
		return nil
	}
	out := &shoal.Privileges{NoNewPrivileges: p.NoNewPrivileges}
	if s := p.Seccomp; s != nil {
		out.SeccompMode, out.SeccompProfile = string(s.Mode), s.Profile
	}
	if p.AppArmor != nil {
		out.AppArmorMode = string(p.AppArmor.Mode)
	}
	if s := p.SELinuxContext; s != nil {
		out.SELinux = map[string]string{
			keyDisable: strconv.FormatBool(s.Disable), keyUser: s.User, keyRole: s.Role, keyType: s.Type, keyLevel: s.Level,
		}
	}
	if c := p.CredentialSpec; c != nil {
		out.CredentialSpec = map[string]string{keyConfig: c.Config, keyFile: c.File, keyRegistry: c.Registry}
	}
	return out
}
