package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/internal/daemon/config"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/registry"
)

// followHangups reads the settings anew after each SIGHUP, until ctx ends. What is wrong with them is logged, and everything stays as it was.
func (d *Daemon) followHangups(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.hangups:
			if err := d.reload(); err != nil {
				d.log.Error("the settings cannot be read anew; the daemon goes on with those that it has", "err", err)
			}
		}
	}
}

// reload takes over what dockerd takes over from the configuration file, and publishes it.
func (d *Daemon) reload() error {
	fresh, err := d.loadAgain()
	if err != nil {
		return err
	}
	cfg := d.settings()
	takeOver(&cfg, &fresh)
	defaults, err := containerDefaults(&cfg)
	if err != nil {
		return err
	}
	d.images.SetLimits(transferLimits(&cfg))
	d.cfgMu.Lock()
	d.cfg, d.defaults = cfg, defaults
	d.cfgMu.Unlock()
	d.level.Set(cfg.Level())
	d.registries.Set(registry.Settings{Insecure: cfg.InsecureRegistries, Mirrors: cfg.RegistryMirrors})
	for _, warning := range fresh.Warnings {
		d.log.Warn("a setting of the daemon has no effect", "setting", warning)
	}
	attributes := reloaded(&cfg)
	d.log.Info("the settings were read anew", "file", cfg.File, "settings", attributes)
	d.events.Publish(events.Event{Type: "daemon", Action: "reload", ID: d.machineID(), Attributes: attributes})
	return nil
}

// takeOver copies the settings that can change while the daemon runs. Those that must not be looked at again, such as the data root, stay.
func takeOver(cfg, fresh *config.Config) {
	cfg.Warnings = fresh.Warnings
	cfg.Debug, cfg.LogLevel = fresh.Debug, fresh.LogLevel
	cfg.Labels, cfg.Features = fresh.Labels, fresh.Features
	cfg.LiveRestore, cfg.ShutdownTimeout = fresh.LiveRestore, fresh.ShutdownTimeout
	cfg.RegistryMirrors, cfg.InsecureRegistries = fresh.RegistryMirrors, fresh.InsecureRegistries
	cfg.MaxDownloads, cfg.MaxUploads, cfg.MaxAttempts = fresh.MaxDownloads, fresh.MaxUploads, fresh.MaxAttempts
	cfg.Runtimes, cfg.DefaultRuntime = fresh.Runtimes, fresh.DefaultRuntime
	cfg.ShmSize, cfg.IpcMode, cfg.CgroupnsMode = fresh.ShmSize, fresh.IpcMode, fresh.CgroupnsMode
}

// reloaded is the attributes of the event, as Docker has them.
func reloaded(cfg *config.Config) map[string]string {
	list := func(all []string) string {
		text, err := json.Marshal(append([]string{}, all...))
		if err != nil {
			return "[]"
		}
		return string(text)
	}
	var runtimes []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Runtimes)) {
		runtimes = append(runtimes, name+":"+cfg.Runtimes[name].Path)
	}
	return map[string]string{
		"debug": strconv.FormatBool(cfg.Debug), "default-cgroupns-mode": cfg.CgroupnsMode, "default-ipc-mode": cfg.IpcMode, "default-runtime": cfg.DefaultRuntime,
		"default-shm-size": strconv.FormatInt(cfg.ShmSize, 10), "features": fmt.Sprint(cfg.Features), "insecure-registries": list(cfg.InsecureRegistries),
		"labels": list(cfg.Labels), "live-restore": strconv.FormatBool(cfg.LiveRestore), "max-concurrent-downloads": strconv.Itoa(cfg.MaxDownloads),
		"max-concurrent-uploads": strconv.Itoa(cfg.MaxUploads), "max-download-attempts": strconv.Itoa(cfg.MaxAttempts), "registry-mirrors": list(cfg.RegistryMirrors),
		"runtimes": strings.Join(runtimes, " "), "shutdown-timeout": strconv.Itoa(cfg.ShutdownTimeout),
	}
}
