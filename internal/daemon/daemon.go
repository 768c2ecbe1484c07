package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/api"
	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/daemon/config"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/registry"
	containerd "github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/volume"
)

// Daemon is a node: all parts of it, connected to one another.
type Daemon struct {
	level      slog.LevelVar
	hangups    <-chan os.Signal              // SIGHUP, after which settings are read anew
	loadAgain  func() (config.Config, error) // reads them; required with hangups
	log        *slog.Logger
	events     *events.Bus
	runtime    *containerd.Runtime
	images     *image.Store
	registries *registry.Client
	volumes    *volume.Store
	containers *container.Engine
	builder    *build.Builder
	networks   *network.Networks
	members    *membership.Membership
	reserve    *reserve
	tunnels    *tunnelListener
	quarantine *quarantine.Quarantine

	cfgMu    sync.Mutex // guards what follows; what SIGHUP does not change of cfg is read without it
	cfg      config.Config
	defaults container.Defaults
}

// New constructs the parts of a node and starts containerd. Run starts the rest; on an error, everything is closed again.
func New(ctx context.Context, cfg config.Config) (*Daemon, error) {
	d := &Daemon{cfg: cfg, events: &events.Bus{}, tunnels: newTunnelListener()}
	d.log = newLogger(&cfg, os.Stderr, &d.level)
	for _, warning := range cfg.Warnings {
		d.log.Warn("a setting of the daemon has no effect", "setting", warning)
	}
	if err := setProxies(&cfg); err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.DataRoot, cfg.ExecRoot} {
		if err := atomicfile.Mkdir(dir, 0o711); err != nil { // #nosec G301 -- containers' mounts are below
			return nil, fmt.Errorf("make root directory: %w", err)
		}
	}
	if err := d.construct(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *Daemon) construct(ctx context.Context) error {
	pools, err := addressPools(d.cfg.AddressPools)
	if err != nil {
		return err
	}
	if d.defaults, err = containerDefaults(&d.cfg); err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	d.quarantine = quarantine.Open(filepath.Join(d.cfg.DataRoot, "quarantine"), d.log, d.events)
	d.reserve = &reserve{
		dir: d.cfg.DataRoot, state: filepath.Join(d.cfg.DataRoot, "swarm"), note: d.quarantine.Note,
		needed: func() bool { return d.members != nil && d.members.Info().IsManager },
	}
	if d.runtime, err = d.startContainerd(ctx); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	d.registries = registry.New(registry.DefaultCertsDir, registry.Settings{Insecure: d.cfg.InsecureRegistries, Mirrors: d.cfg.RegistryMirrors})
	d.images = image.New(image.Config{
		Log: d.log, Client: d.runtime.Client, Events: d.events, Registries: d.registries,
		Users: func() []image.User { return d.containers.ImageUsers() },
		Room:  d.reserve.check,
	})
	d.images.SetLimits(transferLimits(&d.cfg))
	d.volumes, err = volume.New(volume.Config{Log: d.log, Quarantine: d.quarantine, Root: filepath.Join(d.cfg.DataRoot, "volumes"), Events: d.events})
	if err != nil {
		return err
	}
	state, cgroup := filepath.Join(d.cfg.ExecRoot, "containers"), d.cfg.CgroupParent
	if cgroup == "" {
		cgroup = container.CgroupOf(state)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	d.networks, err = network.New(network.Config{
		Log: d.log, DataRoot: d.cfg.DataRoot, ExecRoot: d.cfg.ExecRoot, Events: d.events, AddressPools: pools,
		Quarantine: d.quarantine, Attacher: attacher{d}, ProbePort: d.cfg.ProbePort, Cgroup: cgroup, Program: program,
		Defaults: networkDefaults(&d.cfg),
		Called:   func(addr netip.Addr) { d.members.Called(addr) },
	})
	if err != nil {
		return err
	}
	d.containers = container.New(container.Config{
		Log: d.log, Root: filepath.Join(d.cfg.DataRoot, "containers"), State: state,
		Runtime: d.runtime, Images: d.images, Volumes: d.volumes, Network: d.networks, Events: d.events,
		CgroupParent: cgroup, Quarantine: d.quarantine, Room: d.reserve.check,
		Defaults: func() container.Defaults {
			d.cfgMu.Lock()
			defer d.cfgMu.Unlock()
			return d.defaults
		},
	})
	d.builder, err = build.New(build.Config{
		Log: d.log, Root: filepath.Join(d.cfg.DataRoot, "buildkit"), State: filepath.Join(d.cfg.ExecRoot, "build"),
		Runtime: d.runtime, Images: d.images, Registries: d.registries, Network: d.networks, CgroupParent: cgroup,
		GC: cacheLimits(&d.cfg.Builder), Room: d.reserve.check, SetAside: d.quarantine.SetAside, HostGateways: d.networks.HostGateways,
	})
	if err != nil {
		return err
	}
	d.members = membership.New(membership.Config{
		Log: d.log, Dir: filepath.Join(d.cfg.DataRoot, "swarm"), Hostname: hostname, Host: d.newSwarmHost(),
		SetAside: d.quarantine.SetAside, StartProbes: d.networks.StartProbes, StopProbes: d.networks.StopProbes,
		DefaultAdvertiseAddr: d.cfg.AdvertiseAddr,
	})
	return nil
}

// startContainerd starts containerd, again and again if need be: without it the node can do little, but what it lacks, such as room on the disk, may come.
// Only another daemon on the same directories, and the end of ctx, are errors.
func (d *Daemon) startContainerd(ctx context.Context) (*containerd.Runtime, error) {
	const longestPause = 15 * time.Second
	for pause := time.Second; ; pause = min(2*pause, longestPause) {
		rt, err := containerd.Start(ctx, containerd.Config{
			Log: d.log, Root: filepath.Join(d.cfg.DataRoot, "containerd"), State: filepath.Join(d.cfg.ExecRoot, "ctd"), // a short name: the addresses of sockets below it are limited to 108 bytes
			SetAside: d.quarantine.SetAside,
		})
		if err == nil || errdefs.IsUnavailable(err) {
			return rt, err
		}
		d.log.Error("containerd cannot be started, which the node waits for; it is tried again", "after", pause, "err", err)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// close closes what construct has made. Containers go on running.
func (d *Daemon) close() error {
	var errs []error
	if d.builder != nil {
		errs = append(errs, d.builder.Close())
	}
	if d.containers != nil {
		d.containers.Close()
	}
	if d.networks != nil {
		errs = append(errs, d.networks.Close())
	}
	if d.runtime != nil {
		errs = append(errs, d.runtime.Close())
	}
	return errors.Join(errs...)
}

// shutdownLimit is how long the daemon waits, when it ends, for API requests that are under way.
const shutdownLimit = 2 * time.Second

// Run serves until ctx ends, which is no error, or a room fails. Containers, and the traffic to them, go on without the daemon.
func (d *Daemon) Run(ctx context.Context) error {
	defer func() {
		if err := d.close(); err != nil {
			d.log.Error("shutting down failed in part; containers run on", "err", err)
		}
	}()
	listeners, missing, err := d.listen()
	if err != nil {
		return err
	}
	listeners = append(listeners, d.tunnels)
	if err := d.writePidFile(); err != nil {
		return err
	}
	defer func() { _ = os.Remove(d.cfg.PidFile) }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.quarantine.Run(ctx) })
	group.Go(func() error { return d.networks.Run(ctx) })
	group.Go(func() error { return trimMemory(ctx) })
	if err := d.containers.Restore(ctx); err != nil {
		return fmt.Errorf("restore containers: %w", err)
	}
	if err := d.builder.Clean(ctx); err != nil {
		d.quarantine.Retry("builds that the last daemon left", err, d.builder.Clean)
	}
	if !d.cfg.LiveRestore {
		d.containers.StopRestored(ctx, shutdownTimeout(&d.cfg))
	}
	if d.hangups != nil {
		group.Go(func() error { return d.followHangups(ctx) })
	}
	if err := d.members.Start(ctx); err != nil {
		d.quarantine.Retry("place in the cluster", err, d.resumeMembership)
	}
	group.Go(func() error { return d.members.RenewCertificates(ctx) })
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: time.Minute}
	serve := func(l net.Listener) {
		group.Go(func() error {
			d.log.Info("API listens", "addr", l.Addr().String())
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	for _, l := range listeners {
		serve(l)
	}
	for host, err := range missing {
		d.listenLater(host, err, serve)
	}
	group.Go(func() error {
		<-ctx.Done()
		d.log.Info("shutting down")
		d.members.Stop()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer cancel()
		if server.Shutdown(limit) != nil {
			return server.Close() // ends streams, such as followed logs, that would go on for ever
		}
		return nil
	})
	err = group.Wait()
	if cfg := d.settings(); !cfg.LiveRestore {
		d.log.Info("containers are stopped with the daemon, as live-restore is off")
		d.containers.StopAll(context.WithoutCancel(ctx), shutdownTimeout(&cfg))
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// resumeMembership tries again to take up the node's place in its cluster, unless somebody has given it another meanwhile.
func (d *Daemon) resumeMembership(ctx context.Context) error {
	if d.members.Info().State != "error" {
		return nil
	}
	return d.members.Start(ctx)
}

func (d *Daemon) handler() http.Handler {
	hostname, _ := os.Hostname() // construct has had an answer already
	return api.New(api.Config{
		Log: d.log, Containers: d.containers, Images: d.images, Builder: d.builder, Registries: d.registries, Volumes: d.volumes, Networks: d.networks, Members: d.members,
		Events: d.events, Logs: d.taskLogs, Dial: d.dialNode, CheckPorts: allocator.CheckPorts, Exhausted: allocator.Exhausted, Outdated: orchestrator.Stale,
		Problems: func() []string {
			return slices.Concat(d.settings().Warnings, d.quarantine.Problems(), d.networks.Problems(), d.members.Problems())
		},
		Machine: api.Machine{
			ID: d.machineID(), Hostname: hostname, Version: d.cfg.Version, KernelVersion: kernelVersion(), OS: osName(),
			Architecture: machine(), CPUs: int(describe(&d.cfg).Resources.NanoCPUs / 1e9), Memory: memory(), Root: d.cfg.DataRoot,
			Plugins: plugins(), CgroupVersion: cgroupVersion(),
		},
		Settings: d.apiSettings,
	})
}

// writePidFile writes the daemon's process ID. It fails if the file names another process that runs; a file that cannot be written is only logged.
func (d *Daemon) writePidFile() error {
	if text, err := os.ReadFile(d.cfg.PidFile); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if _, statErr := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err == nil && pid != os.Getpid() && statErr == nil {
			return fmt.Errorf("process with PID %d is still running", pid)
		}
	}
	err := os.MkdirAll(filepath.Dir(d.cfg.PidFile), 0o755) // #nosec G301 -- as /run is
	if err == nil {
		err = os.WriteFile(d.cfg.PidFile, []byte(strconv.Itoa(os.Getpid())), 0o644) // #nosec G306 -- others may read it
	}
	if err != nil {
		d.log.Warn("the file with the daemon's process ID cannot be written; programs that look there do not find the daemon", "file", d.cfg.PidFile, "err", err)
	}
	return nil
}

// addressPools is the values of --default-address-pool.
func addressPools(texts []string) ([]network.AddressPool, error) {
	var out []network.AddressPool
	for _, text := range texts {
		base, size, err := config.ParsePool(text)
		if err != nil {
			return nil, err
		}
		out = append(out, network.AddressPool{Base: base, Size: size})
	}
	return out, nil
}

// cgroupVersion is "2" where the unified hierarchy is mounted, "1" otherwise.
func cgroupVersion() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "2"
	}
	return "1"
}
