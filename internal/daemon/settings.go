package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/api"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/daemon/config"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// settings is the settings as they are now: SIGHUP changes some of them.
func (d *Daemon) settings() config.Config {
	d.cfgMu.Lock()
	defer d.cfgMu.Unlock()
	return d.cfg
}

// apiSettings is what clients see of the settings.
func (d *Daemon) apiSettings() api.Settings {
	cfg := d.settings()
	s := api.Settings{
		Debug: cfg.Debug, Experimental: cfg.Experimental, Labels: cfg.Labels, LiveRestore: cfg.LiveRestore, LogDriver: cfg.LogDriver,
		DefaultRuntime: cfg.DefaultRuntime, ClassicBuilder: classicBuilder(&cfg), RegistryMirrors: cfg.RegistryMirrors, InsecureRegistries: cfg.InsecureRegistries,
		HTTPProxy: proxy(cfg.HTTPProxy, "HTTP_PROXY"), HTTPSProxy: proxy(cfg.HTTPSProxy, "HTTPS_PROXY"), NoProxy: proxy(cfg.NoProxy, "NO_PROXY"),
		CDISpecDirs: cfg.CDISpecDirs, GenericResources: genericResources(cfg.GenericResources),
	}
	for name, r := range cfg.Runtimes {
		s.Runtimes = append(s.Runtimes, api.Runtime{Name: name, Path: r.Path, Args: r.Args})
	}
	for _, text := range cfg.AddressPools {
		if base, size, err := config.ParsePool(text); err == nil { // checked at the start
			s.AddressPools = append(s.AddressPools, api.AddressPool{Base: base, Size: size})
		}
	}
	return s
}

// proxy is a setting of a proxy, or else that of the environment, without credentials.
func proxy(setting, variable string) string {
	for _, v := range []string{setting, os.Getenv(variable), os.Getenv(strings.ToLower(variable))} {
		if v != "" {
			return config.MaskCredentials(v)
		}
	}
	return ""
}

// setProxies makes the settings what the process's requests go by. It must come before the first one.
func setProxies(cfg *config.Config) error {
	for variable, value := range map[string]string{"HTTP_PROXY": cfg.HTTPProxy, "HTTPS_PROXY": cfg.HTTPSProxy, "NO_PROXY": cfg.NoProxy} {
		if value == "" {
			continue
		}
		if err := os.Setenv(variable, value); err != nil {
			return err
		}
		if err := os.Setenv(strings.ToLower(variable), value); err != nil {
			return err
		}
	}
	return nil
}

// classicBuilder tells whether clients are told to build the way that was before BuildKit.
func classicBuilder(cfg *config.Config) bool {
	on, set := cfg.Features["buildkit"]
	return set && !on
}

// transferLimits is what the settings say of pulls and pushes.
func transferLimits(cfg *config.Config) image.Limits {
	return image.Limits{Downloads: cfg.MaxDownloads, Uploads: cfg.MaxUploads, Attempts: cfg.MaxAttempts}
}

// cacheLimits is what the settings say of the cache of builds.
func cacheLimits(b *config.Builder) build.GC {
	gc := build.GC{Disabled: b.GCOff, Reserved: b.Reserved, MaxUsed: b.MaxUsed, MinFree: b.MinFree}
	for _, r := range b.Rules {
		gc.Rules = append(gc.Rules, build.Prune{All: r.All, KeepFor: r.KeepFor, Filter: r.Filter, Reserved: r.Reserved, MaxUsed: r.MaxUsed, MinFree: r.MinFree})
	}
	return gc
}

// genericResources reads "kind=name", for one piece, and "kind=3".
func genericResources(texts []string) []shoal.GenericResource {
	var out []shoal.GenericResource
	for _, text := range texts {
		kind, value, _ := strings.Cut(text, "=")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			out = append(out, shoal.GenericResource{Kind: kind, Count: n})
			continue
		}
		out = append(out, shoal.GenericResource{Kind: kind, Named: value, Count: 1})
	}
	return out
}

// containerDefaults is what the settings say for containers. The profile is read anew, as it may have been changed.
func containerDefaults(cfg *config.Config) (container.Defaults, error) {
	d := container.Defaults{
		Ulimits: cfg.Ulimits, ShmSize: cfg.ShmSize, IpcMode: cfg.IpcMode, CgroupnsMode: cfg.CgroupnsMode, Init: cfg.Init, NoNewPrivileges: cfg.NoNewPrivileges,
		Log: shoal.Driver{Name: cfg.LogDriver, Options: cfg.LogOpts}, Runtime: cfg.DefaultRuntime,
	}
	var err error
	if d.Runtimes, err = ociPrograms(filepath.Join(cfg.DataRoot, "runtimes"), cfg.Runtimes); err != nil {
		return d, err
	}
	switch cfg.SeccompProfile {
	case "", "builtin":
	case "unconfined":
		d.Seccomp = "unconfined"
	default:
		profile, err := os.ReadFile(cfg.SeccompProfile)
		if err != nil {
			return d, fmt.Errorf("opening seccomp profile (%s) failed: %w", cfg.SeccompProfile, err)
		}
		d.Seccomp = string(profile)
	}
	if err := d.Check(); err != nil {
		return d, errdefs.ErrInvalidArgument.WithMessage("failed to set log opts: " + err.Error())
	}
	return d, nil
}

// networkDefaults is what the settings say for networks.
func networkDefaults(cfg *config.Config) network.Defaults {
	b := &cfg.Bridge
	bridge := network.DefaultBridge{Disabled: b.Name == config.NoBridge, IPv6: b.IPv6, MTU: b.MTU, NoICC: b.NoICC, NoMasq: b.NoMasq, HostIP: b.HostIP}
	if !bridge.Disabled {
		bridge.Given = b.Name
	}
	for text, into := range map[string]*netip.Prefix{b.IP: &bridge.Addr, b.IP6: &bridge.Addr6, b.FixedCIDR: &bridge.Range, b.FixedCIDRv6: &bridge.Range6} {
		*into, _ = netip.ParsePrefix(text) // checked, and empty for none
	}
	if b.Name == "docker0" {
		bridge.Given = "" // it is made, as the default
	}
	return network.Defaults{
		DNS: shoal.DNSConfig{Nameservers: cfg.DNS, Search: cfg.DNSSearch, Options: cfg.DNSOptions}, HostGateways: cfg.HostGateways,
		NetworkOptions: cfg.DefaultNetworkOpts, Bridge: bridge, DirectRouting: cfg.DirectRouting,
	}
}

// shutdownTimeout is how long containers have to stop; negative for ever.
func shutdownTimeout(cfg *config.Config) time.Duration {
	return time.Duration(cfg.ShutdownTimeout) * time.Second
}
