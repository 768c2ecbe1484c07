package engine

import (
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Settings is what the daemon's configuration says, as far as clients see it. It can change while the daemon runs.
type Settings struct {
	Debug              bool
	Experimental       bool
	Labels             []string
	LiveRestore        bool
	LogDriver          string
	DefaultRuntime     string
	Runtimes           []Runtime // without the ones that every node has
	ClassicBuilder     bool      // clients are told to build the way that was before BuildKit
	RegistryMirrors    []string
	InsecureRegistries []string
	HTTPProxy          string // without credentials, as the next
	HTTPSProxy         string
	NoProxy            string
	CDISpecDirs        []string
	AddressPools       []AddressPool
	GenericResources   []shoal.GenericResource
}

// Runtime is an OCI runtime that containers can ask for.
type Runtime struct {
	Name, Path string
	Args       []string
}

// AddressPool is a range that subnets of Size bits are cut from.
type AddressPool struct {
	Base netip.Prefix
	Size int
}

// show enters the settings in what /info answers.
func (c *Settings) show(info *system.Info) {
	info.Debug, info.ExperimentalBuild, info.Labels, info.LiveRestoreEnabled = c.Debug, c.Experimental, c.Labels, c.LiveRestore
	info.LoggingDriver, info.DefaultRuntime = c.LogDriver, c.DefaultRuntime
	for _, r := range c.Runtimes {
		info.Runtimes[r.Name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: r.Path, Args: r.Args}}
	}
	info.HTTPProxy, info.HTTPSProxy, info.NoProxy, info.CDISpecDirs = c.HTTPProxy, c.HTTPSProxy, c.NoProxy, slices.Clip(append([]string{}, c.CDISpecDirs...))
	for _, p := range c.AddressPools {
		info.DefaultAddressPools = append(info.DefaultAddressPools, system.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	for _, r := range c.GenericResources {
		if r.Named != "" {
			info.GenericResources = append(info.GenericResources, swarm.GenericResource{NamedResourceSpec: &swarm.NamedGenericResource{Kind: r.Kind, Value: r.Named}})
			continue
		}
		info.GenericResources = append(info.GenericResources, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: r.Kind, Value: r.Count}})
	}
	c.showRegistries(info.RegistryConfig)
}

// showRegistries enters mirrors and insecure registries. As with dockerd, loopback is always among the latter.
func (c *Settings) showRegistries(config *registry.ServiceConfig) {
	config.Mirrors = append([]string{}, c.RegistryMirrors...)
	if hub := config.IndexConfigs["docker.io"]; hub != nil {
		hub.Mirrors = config.Mirrors
	}
	for _, r := range append(slices.Clone(c.InsecureRegistries), "::1/128", "127.0.0.0/8") {
		if p, err := netip.ParsePrefix(r); err == nil {
			config.InsecureRegistryCIDRs = append(config.InsecureRegistryCIDRs, p)
			continue
		}
		config.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
}
