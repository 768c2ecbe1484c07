package api

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	eventtypes "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/membership"
)

// Machine is what does not change about a node while its daemon runs.
type Machine struct {
	ID            string
	Hostname      string
	Version       string
	KernelVersion string
	OS            string
	Architecture  string
	CPUs          int
	Memory        int64
	Root          string
	Labels        []string
	Plugins       map[string][]string
	CgroupVersion string
	Debug         bool
	Insecure      []string
}

// Counts is how many containers and images there are.
type Counts struct{ Containers, Running, Paused, Images int }

// systems serves what concerns the node as a whole.
type systems struct {
	machine Machine
	counts  func(context.Context) Counts
	members *membership.Membership
	bus     *events.Bus
}

func (s *systems) register(rt *router) {
	rt.handle("GET /_ping", s.ping)
	rt.handle("HEAD /_ping", s.ping)
	rt.handle("GET /version", s.version)
	rt.handle("GET /info", s.info)
	rt.handle("GET /events", s.events)
}

func (s *systems) ping(w http.ResponseWriter, r *http.Request) error {
	info := s.members.Info()
	place := "inactive"
	switch {
	case info.State == "active" && info.IsManager:
		place = "active/manager"
	case info.State == "active":
		place = "active/worker"
	case info.State != "inactive":
		place = info.State
	}
	h := w.Header()
	h.Set("Swarm", place)
	h.Set("Builder-Version", "1")
	h.Set("Docker-Experimental", "false")
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

func (s *systems) version(w http.ResponseWriter, _ *http.Request) error {
	m := s.machine
	return writeJSON(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "shoal"},
		Version:  m.Version, APIVersion: Version, MinAPIVersion: MinVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GoVersion: runtime.Version(), KernelVersion: m.KernelVersion,
		Components: []system.ComponentVersion{{Name: "Engine", Version: m.Version, Details: map[string]string{
			"ApiVersion": Version, "MinAPIVersion": MinVersion, "Os": runtime.GOOS, "Arch": runtime.GOARCH,
			"GoVersion": runtime.Version(), "KernelVersion": m.KernelVersion, "Experimental": "false",
		}}},
	})
}

func (s *systems) info(w http.ResponseWriter, r *http.Request) error {
	m, n := s.machine, s.counts(r.Context())
	return writeJSON(w, http.StatusOK, system.Info{
		ID: m.ID, Name: m.Hostname, ServerVersion: m.Version,
		Containers: n.Containers, ContainersRunning: n.Running, ContainersPaused: n.Paused,
		ContainersStopped: n.Containers - n.Running - n.Paused, Images: n.Images,
		Driver: "overlayfs", DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins:     system.PluginsInfo{Volume: m.Plugins["Volume"], Network: m.Plugins["Network"], Log: m.Plugins["Log"]},
		MemoryLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true, IPv4Forwarding: true,
		Debug: m.Debug, NGoroutines: runtime.NumGoroutine(), SystemTime: time.Now().Format(time.RFC3339Nano),
		LoggingDriver: "json-file", CgroupDriver: "cgroupfs", CgroupVersion: m.CgroupVersion,
		KernelVersion: m.KernelVersion, OperatingSystem: m.OS, OSType: runtime.GOOS, Architecture: m.Architecture,
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: &registry.ServiceConfig{IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Secure: true, Official: true},
		}},
		NCPU: m.CPUs, MemTotal: m.Memory, DockerRootDir: m.Root, Labels: m.Labels,
		Runtimes:       map[string]system.RuntimeWithStatus{"runc": {Runtime: system.Runtime{Path: "runc"}}, "io.containerd.runc.v2": {Runtime: system.Runtime{Path: "runc"}}},
		DefaultRuntime: "runc", Swarm: s.swarm(), LiveRestoreEnabled: true, InitBinary: "docker-init",
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, Warnings: []string{},
	})
}

// swarm is the cluster's part of /info.
func (s *systems) swarm() swarm.Info {
	place := s.members.Info()
	info := swarm.Info{
		NodeID: place.NodeID, NodeAddr: place.NodeAddr, LocalNodeState: swarm.LocalNodeState(place.State),
		ControlAvailable: place.IsManager, Error: place.Err,
	}
	for _, addr := range place.Managers {
		info.RemoteManagers = append(info.RemoteManagers, swarm.Peer{Addr: addr})
	}
	db, err := s.members.Store()
	if err != nil {
		return info
	}
	view := db.View()
	info.RemoteManagers = nil
	for _, n := range view.Nodes() {
		info.Nodes++
		if n.Manager != nil {
			info.Managers++
			info.RemoteManagers = append(info.RemoteManagers, swarm.Peer{NodeID: n.ID, Addr: n.Manager.Addr})
		}
	}
	if cluster := view.Cluster(); cluster != nil {
		c := clusterInfo(cluster)
		info.Cluster = &c
	}
	return info
}

// events streams what happens, as JSON objects one after another.
func (s *systems) events(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "type", "event", "scope", "container", "image", "volume", "network", "daemon", "service", "node", "secret", "config", "label", "plugin", "id")
	if err != nil {
		return err
	}
	since, err := unixTime(r.FormValue("since"))
	if err != nil {
		return err
	}
	until, err := unixTime(r.FormValue("until"))
	if err != nil {
		return err
	}
	ctx := r.Context()
	if !until.IsZero() {
		ended, cancel := contextUntil(ctx, until)
		defer cancel()
		ctx = ended
	}
	out := newJSONStream(w)
	out.start()
	err = s.bus.Follow(ctx, since, func(e events.Event) error {
		if !eventPasses(f, e) || (!until.IsZero() && e.Time.After(until)) {
			return nil
		}
		return out.send(eventtypes.Message{
			Type: eventtypes.Type(e.Type), Action: eventtypes.Action(e.Action), Scope: e.Scope,
			Actor: eventtypes.Actor{ID: e.ID, Attributes: orEmpty(e.Attributes)},
			Time:  e.Time.Unix(), TimeNano: e.Time.UnixNano(),
		})
	})
	if ctx.Err() != nil {
		return nil // the client has enough, or the time is over
	}
	return err
}

func eventPasses(f filters, e events.Event) bool {
	if !f.exact("type", e.Type) || !f.exact("scope", e.Scope) || !f.labels("label", e.Attributes) || !f.exact("id", e.ID) {
		return false
	}
	if !f.any("event", func(want string) bool { return e.Action == want || strings.HasPrefix(e.Action, want+":") }) {
		return false
	}
	for _, kind := range []string{"container", "image", "volume", "network", "daemon", "service", "node", "secret", "config", "plugin"} {
		if f.has(kind) && (e.Type != kind || !f.any(kind, func(want string) bool {
			return strings.HasPrefix(e.ID, want) || e.Attributes["name"] == want
		})) {
			return false
		}
	}
	return true
}

// unixTime reads "seconds[.nanoseconds]"; empty is the zero time.
func unixTime(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	seconds, nanos, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return t, nil
		}
		return time.Time{}, fail(http.StatusBadRequest, "%s", fmt.Sprintf("invalid time %q", text))
	}
	var n int64
	if nanos != "" {
		const digits = 9
		n, err = strconv.ParseInt((nanos + strings.Repeat("0", digits))[:digits], 10, 64)
		if err != nil {
			return time.Time{}, fail(http.StatusBadRequest, "%s", fmt.Sprintf("invalid time %q", text))
		}
	}
	return time.Unix(s, n), nil
}
