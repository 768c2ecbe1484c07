package engine

import (
	"cmp"
	"context"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
)

// Machine is what does not change about a node while its daemon runs.
type Machine struct {
	// ID names the node's engine, whether or not it is in a cluster.
	ID            string
	Hostname      string
	Version       string // of shoal
	KernelVersion string
	OS            string // as the distribution calls itself
	Architecture  string // as uname(2) calls it
	CPUs          int
	Memory        int64 // bytes
	Root          string
	// Plugins is the names of the built-in drivers by kind: "Volume", "Network", "Log".
	Plugins       map[string][]string
	CgroupVersion string // "1" or "2"
}

// Swarm tells this node's place in a cluster.
type Swarm interface {
	// Status is "inactive", "active/manager", "active/worker", or another state of a node.
	Status() string
	// Info is the cluster's part of /info.
	Info() swarm.Info
}

// systemInfo serves what concerns the engine as a whole: /_ping, /version and /info.
type systemInfo struct {
	machine    Machine
	swarm      Swarm
	containers *container.Engine
	images     *image.Store
	events     *events.Bus
	warnings   func() []string
	settings   func() Settings
	runc       func() programVersion
}

func newSystemInfo(c Config) *systemInfo {
	return &systemInfo{machine: c.Machine, swarm: c.Swarm, containers: c.Containers, images: c.Images, events: c.Events, warnings: c.Warnings, settings: c.Settings, runc: sync.OnceValue(runcVersion)}
}

// programs are the versions of the programs that containers need. All but runc are part of this one.
func (s *systemInfo) programs() []programVersion {
	return []programVersion{containerdVersion(), s.runc(), {name: "docker-init", version: s.machine.Version, commit: originOf().commit}}
}

func (s *systemInfo) Register(rt *server.Router) {
	rt.Handle("GET /_ping", s.ping)
	rt.Handle("HEAD /_ping", s.ping)
	rt.Handle("GET /version", s.version)
	rt.Handle("GET /info", s.info)
}

func (s *systemInfo) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Swarm", s.swarm.Status())
	builder := apibuild.BuilderBuildKit
	if s.settings().ClassicBuilder {
		builder = apibuild.BuilderV1
	}
	h.Set("Builder-Version", string(builder))
	h.Set("Docker-Experimental", strconv.FormatBool(s.settings().Experimental))
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

func (s *systemInfo) version(w http.ResponseWriter, _ *http.Request) error {
	m, built := s.machine, originOf()
	engine := map[string]string{
		"ApiVersion": version.Max, "MinAPIVersion": version.Min, "Os": runtime.GOOS, "Arch": runtime.GOARCH, "GitCommit": built.commit, "BuildTime": built.time,
		"GoVersion": runtime.Version(), "KernelVersion": m.KernelVersion, "Experimental": "false",
	}
	components := []system.ComponentVersion{{Name: "Engine", Version: m.Version, Details: engine}}
	for _, p := range s.programs() {
		components = append(components, system.ComponentVersion{Name: p.name, Version: p.version, Details: map[string]string{"GitCommit": p.commit}})
	}
	return server.WriteJSON(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "shoal"}, Components: components,
		Version: m.Version, APIVersion: version.Max, MinAPIVersion: version.Min, GitCommit: built.commit, BuildTime: built.time,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GoVersion: runtime.Version(), KernelVersion: m.KernelVersion,
	})
}

func (s *systemInfo) info(w http.ResponseWriter, r *http.Request) error {
	m, n, kernel, settings := s.machine, s.count(r.Context()), kernelFeatures(), s.settings()
	out := system.Info{
		ID: m.ID, Name: m.Hostname, ServerVersion: m.Version,
		Containers: n.containers, ContainersRunning: n.running, ContainersPaused: n.paused,
		ContainersStopped: n.containers - n.running - n.paused, Images: n.images,
		Driver: "overlayfs", DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins:     system.PluginsInfo{Volume: m.Plugins["Volume"], Network: m.Plugins["Network"], Log: m.Plugins["Log"]},
		MemoryLimit: true, SwapLimit: kernel.swapLimit, OomKillDisable: kernel.oomKillDisable, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		IPv4Forwarding: kernel.forwarding, NFd: openFiles(), NGoroutines: runtime.NumGoroutine(), NEventsListener: s.events.Followers(),
		SystemTime: time.Now().Format(time.RFC3339Nano), CgroupDriver: "cgroupfs", CgroupVersion: m.CgroupVersion,
		KernelVersion: m.KernelVersion, OperatingSystem: m.OS, OSVersion: osVersion(), OSType: runtime.GOOS, Architecture: m.Architecture,
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: &registry.ServiceConfig{IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Secure: true, Official: true},
		}},
		NCPU: m.CPUs, MemTotal: m.Memory, DockerRootDir: m.Root,
		Runtimes: map[string]system.RuntimeWithStatus{"runc": {Runtime: system.Runtime{Path: "runc"}}, "io.containerd.runc.v2": {Runtime: system.Runtime{Path: "runc"}}},
		Swarm:    s.swarm.Info(), InitBinary: "docker-init",
		SecurityOptions: kernel.securityOptions, FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
	}
	for _, p := range s.programs() {
		switch p.name {
		case "containerd":
			out.ContainerdCommit.ID = cmp.Or(p.commit, p.version)
		case "runc":
			out.RuncCommit.ID = cmp.Or(p.commit, p.version)
		case "docker-init":
			out.InitCommit.ID = cmp.Or(p.commit, p.version)
		}
	}
	out.Warnings = append(s.infoWarnings(), out.Swarm.Warnings...)
	settings.show(&out)
	return server.WriteJSON(w, http.StatusOK, out)
}

// infoWarnings is what `docker info` prints last, in the form that Docker gives its own.
func (s *systemInfo) infoWarnings() []string {
	warnings := []string{}
	for _, problem := range s.warnings() {
		warnings = append(warnings, "WARNING: "+problem)
	}
	return warnings
}

// counts is how many containers and images there are.
type counts struct{ containers, running, paused, images int }

func (s *systemInfo) count(ctx context.Context) counts {
	var n counts
	for _, info := range s.containers.List(nil) {
		n.containers++
		switch info.State.Status {
		case container.Running, container.Restarting:
			n.running++
		case container.Paused:
			n.paused++
		case container.Created, container.Exited, container.Dead, container.Removing:
		}
	}
	if images, err := s.images.List(ctx); err == nil {
		n.images = len(images)
	}
	return n
}
