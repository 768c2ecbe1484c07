package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/volume"
	testimages "github.com/shoal-dev/shoal/test/images"
)

// bareNetwork gives every container an empty network namespace.
type bareNetwork struct{}

func (bareNetwork) Up(_ context.Context, s shoal.SandboxSpec) (shoal.Sandbox, error) {
	name := "shoala-" + s.ContainerID[:12]
	done := make(chan error, 1)
	go func() { // on a thread of its own, which ends in the new namespace
		goruntime.LockOSThread()
		h, err := netns.NewNamed(name)
		if err == nil {
			h.Close()
			err = netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}})
		}
		done <- err
	}()
	for i := range s.Ports {
		s.Ports[i].HostIP = netip.IPv4Unspecified()
	}
	sandbox := shoal.Sandbox{Netns: "/run/netns/" + name, Ports: s.Ports}
	if s.Mode == "bridge" {
		addr := netip.AddrFrom4([4]byte{10, 77, 0, s.ContainerID[0]}) // of text: nearly any
		sandbox.Endpoints = []shoal.EndpointInfo{{Network: "bridge", NetworkID: "bridgeid", Addr: netip.PrefixFrom(addr, 16)}}
	}
	return sandbox, <-done
}

func (bareNetwork) Down(_ context.Context, id string) error {
	if _, err := os.Stat("/run/netns/shoala-" + id[:12]); err != nil {
		return nil
	}
	return netns.DeleteNamed("shoala-" + id[:12])
}

// dockerHost serves a node's API on a socket for the real docker CLI.
type dockerHost struct {
	t        *testing.T
	socket   string
	runtime  *runtime.Runtime
	dir      string                // of all that the node has
	room     atomic.Pointer[error] // of what takes more than is left
	left     atomic.Int64
	setAside []string                           // what was set aside
	defaults atomic.Pointer[container.Defaults] // of containers
}

func newDockerHost(t *testing.T) *dockerHost {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Fatal("needs the docker CLI")
	}
	ctx, dir := context.Background(), t.TempDir()
	h := &dockerHost{t: t, socket: filepath.Join(dir, "docker.sock"), dir: dir}
	h.defaults.Store(&container.Defaults{})
	log, bus := slog.New(slog.NewTextHandler(t.Output(), nil)), &events.Bus{}
	rt, err := runtime.Start(ctx, runtime.Config{Log: log, Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	h.runtime = rt
	volumeStore, err := volume.New(volume.Config{Log: log, Root: filepath.Join(dir, "volumes"), Events: bus, Quarantine: quarantine.Open(filepath.Join(dir, "quarantine"), log, bus)})
	if err != nil {
		t.Fatal(err)
	}
	var engine *container.Engine
	room := func(bytes int64) error {
		if err := h.room.Load(); err != nil && bytes >= h.left.Load() {
			return *err
		}
		return nil
	}
	store := image.New(image.Config{Log: log, Client: rt.Client, Events: bus, Registries: registry.New(t.TempDir(), registry.Settings{}), Users: func() []image.User { return engine.ImageUsers() }, Room: room})
	engine = container.New(container.Config{Log: log, Root: filepath.Join(dir, "containers"), State: filepath.Join(dir, "state", "c"),
		Runtime: rt, Images: store, Volumes: volumeStore, Network: bareNetwork{}, Events: bus, Quarantine: quarantine.Open(filepath.Join(dir, "quarantine"), log, bus),
		Defaults: func() container.Defaults { return *h.defaults.Load() }})
	if err := engine.Restore(ctx); err != nil {
		t.Fatal(err)
	}
	builder, err := build.New(build.Config{Log: log, Root: filepath.Join(dir, "buildkit"), State: filepath.Join(dir, "state", "build"), Runtime: rt, Images: store,
		Registries: store.Registries, Network: bareNetwork{}, CgroupParent: engine.CgroupParent,
		HostGateways: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
		},
		Room: room,
		SetAside: func(path string, _ error) error {
			h.setAside = append(h.setAside, path)
			return os.Rename(path, path+"-set-aside")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	handler := server.New(log,
		&builds{builder, bus, func() bool { return false }},
		&containers{log: log, engine: engine, images: store, withdrawTask: func(context.Context, string) {},
			findNetwork: func(string) (shoal.Network, error) { return shoal.Network{}, errdefs.ErrNotFound }},
		&images{store: store, usedBy: engine.Using, events: bus},
		&volumes{store: volumeStore, events: bus},
		&eventStream{bus},
		&diskUsage{containers: engine, images: &images{store: store, usedBy: engine.Using}, volumes: volumeStore, cache: builder.Usage},
		ping{},
	)
	stop := serve(t, h.socket, handler)
	t.Cleanup(func() {
		for _, info := range engine.List(nil) {
			if err := engine.Remove(ctx, info.ID, true, true); err != nil {
				t.Errorf("remove %s: %v", info.Name, err)
			}
		}
		stop()
		if err := builder.Close(); err != nil {
			t.Error(err)
		}
		engine.Close()
		if left, _ := filepath.Glob("/sys/fs/cgroup/*" + engine.CgroupParent); len(left) > 0 { // fails for malformed patterns only
			t.Errorf("cgroups that are left: %v", left)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// ping answers what the CLI asks first, as a node without a cluster does.
type ping struct{}

func (ping) Register(rt *server.Router) {
	answer := func(http.ResponseWriter, *http.Request) error { return nil }
	rt.Handle("GET /_ping", answer)
	rt.Handle("HEAD /_ping", answer)
}

func serve(t *testing.T, socket string, handler http.Handler) (stop func()) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	httpServer := &http.Server{Handler: handler}
	go func() {
		if err := httpServer.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	return func() { _ = httpServer.Close() }
}

// docker runs the CLI and returns what it prints and its exit code.
func (h *dockerHost) docker(stdin string, args ...string) (string, int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.socket, "DOCKER_CONFIG="+h.t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestDockerCLI(t *testing.T) {
	h := newDockerHost(t)
	paths, err := testimages.Build(t.Context(), testimages.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	cpFile := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(cpFile, []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		args  string // split at spaces; '_' stands for a space within a word
		stdin string
		want  string // a part of what is printed
		code  int
	}{
		{args: "load -i " + paths["busybox"], want: "Loaded image: busybox:latest"},
		{args: "load -i " + paths["nginx"], want: "Loaded image: nginx:latest"},
		{args: "image ls", want: "busybox"},
		{args: "image inspect busybox -f {{.RepoTags}}", want: "[busybox:latest]"},
		{args: "history nginx", want: "shoal test images"},
		{args: "run --rm busybox echo hello", want: "hello\n"},
		{args: "run --rm busybox sh -c exit_42", code: 42},
		{args: "run -i --rm busybox cat", stdin: "from stdin", want: "from stdin"},
		{args: "run --name bad busybox /no/such", want: "no such file or directory", code: 127},
		{args: "rm bad", want: "bad"},
		{args: "run -d --name web -p 8080:80 -l a=b nginx"},
		{args: "run -d --name web nginx", want: `Conflict. The container name "/web" is already in use by container`, code: 125},
		{args: "ps", want: "0.0.0.0:8080->80/tcp"},
		{args: "ps -q -f label=a=b --no-trunc"},
		{args: "ps -a -f name=nothing --format {{.Names}}", want: ""},
		{args: "exec web wget -qO- http://127.0.0.1/", want: "Welcome to nginx!"},
		{args: "exec -i web cat", stdin: "abc", want: "abc"},
		{args: "exec web /no/such", want: "no such file or directory", code: 127},
		{args: "exec web sh -c exit_3", code: 3},
		{args: "cp web:/etc/nginx/nginx.conf -", want: "worker_processes"},
		{args: "cp " + cpFile + " web:/tmp/copied", want: ""},
		{args: "export web", want: "worker_processes"},
		{args: "cp web:/etc -", want: "worker_processes"}, // directly in the root, which is a link of /proc
		{args: "cp web:/ -", want: "worker_processes"},
		{args: "cp " + cpFile + " web:/top", want: ""},
		{args: "exec web cat /top", want: "from the host"},
		{args: "exec web cat /tmp/copied", want: "from the host"},
		{args: "cp web:/no/such -", want: "Could not find the file /no/such in container", code: 1},
		{args: "logs web", want: "GET / HTTP/1.1"},
		{args: "logs --tail 1 -t web", want: "T"},
		{args: "inspect web -f {{.State.Status}}_{{.HostConfig.NetworkMode}}_{{.HostConfig.PortBindings}}", want: "running bridge map[80/tcp:["},
		{args: "top web", want: "nginx: master process"},
		{args: "stats --no-stream web", want: "web"},
		{args: "pause web", want: "web"},
		{args: "ps", want: "(Paused)"},
		{args: "unpause web", want: "web"},
		{args: "rename web www", want: ""},
		{args: "port www", want: "80/tcp -> 0.0.0.0:8080"},
		{args: "update --memory 64m --memory-swap 64m www", want: "www"},
		{args: "exec www sh -c rm_/etc/nsswitch.conf;echo_new_>/added"},
		{args: "commit -a me -m why -c ENV_A=b_C=\"d_e\" -c CMD_[\"cat\",\"/added\"] -c LABEL_k=v -c HEALTHCHECK_NONE www snap:1", want: "sha256:"},
		{args: "run --rm snap:1", want: "new\n"},
		{args: "run --rm snap:1 sh -c echo_$A$C;test_-e_/etc/nsswitch.conf", want: "bd e\n", code: 1},
		{args: "inspect snap:1 -f {{.Author}}_{{.Config.Labels}}_{{.Config.Cmd}}_{{.Config.ExposedPorts}}_{{.Config.Healthcheck.Test}}",
			want: "me map[a:b k:v maintainer:shoal tests] [cat /added] map[80/tcp:{}] [NONE]"},
		{args: "history --no-trunc --format {{.Comment}} snap:1", want: "why\n"},
		{args: "ps --format {{.Status}}", want: "Up"},
		{args: "commit --pause=false www", want: "sha256:"},
		{args: "commit -c FROM_x www", want: "from is not a valid change command", code: 1},
		{args: "commit nosuch", want: "No such container: nosuch", code: 1},
		{args: "rmi snap:1", want: "Untagged: snap:1"},
		{args: "restart -t 2 www", want: "www"},
		{args: "stop www", want: "www"},
		{args: "ps -a", want: "Exited (0)"},
		{args: "start www", want: "www"},
		{args: "rm www", want: "container is running: stop the container before removing or force remove", code: 1},
		{args: "rm -f www", want: "www"},
		{args: "inspect www", want: "No such object: www", code: 1},
		{args: "stop nosuch", want: "No such container: nosuch", code: 1},
		{args: "create --name later busybox echo late", want: ""},
		{args: "start -a later", want: "late\n"},
		{args: "wait later", want: "0\n"},
		{args: "diff later", want: ""},
		{args: "run --init --name initial busybox sh -c echo_x_>/f;exit_6", code: 6},
		{args: "run --rm -t --init busybox sh -c stty_-echo&&tty", want: "/dev/pts/0"}, // in the foreground, or it is stopped
		{args: "diff initial", want: "A /f\n"},
		{args: "create --name waits busybox true"},
		{args: "inspect waits -f {{range_$n,$e_:=_.NetworkSettings.Networks}}{{$n}}={{$e.NetworkID}}{{end}}", want: "bridge=\n"},
		{args: "run --gpus all busybox true", want: `could not select device driver ""`, code: 125},
		{args: "run --memory-swappiness 101 busybox true", want: "101. Valid memory swappiness range is 0-100", code: 125},
		{args: "rm initial waits", want: "waits"},
		{args: "volume create data", want: "data\n"},
		{args: "run --rm -v data:/d busybox sh -c echo_kept_>/d/f", want: ""},
		{args: "run --rm -v data:/d:ro busybox cat /d/f", want: "kept\n"},
		{args: "volume ls -q", want: "data\n"},
		{args: "volume inspect data -f {{.Driver}}", want: "local\n"},
		{args: "volume rm data", want: "data\n"},
		{args: "volume inspect data", want: "volume data not found", code: 1},
		{args: "run --rm --memory 32m --cpus 0.5 --pids-limit 20 busybox cat /sys/fs/cgroup/pids/pids.max", want: ""},
		{args: "run --rm -u 33:33 -w /tmp -e A=1 -h box busybox sh -c id;pwd;echo_$A;hostname", want: "uid=33(www-data) gid=33(www-data) groups=33(www-data)\n/tmp\n1\nbox\n"},
		{args: "run --rm --read-only --tmpfs /t --cap-drop ALL busybox sh -c touch_/t/x_&&_touch_/y", want: "Read-only file system", code: 1},
		{args: "run --rm -t busybox tty", want: "/dev/pts/0"},
		{args: "tag busybox box:1", want: ""},
		{args: "rmi box:1", want: "Untagged: box:1"},
		{args: "rmi busybox", want: "is using its referenced image", code: 1},
		{args: "container prune -f", want: "Deleted Containers"},
		{args: "rmi busybox", want: "Deleted: sha256:"},
		{args: "run --pull never busybox true", want: "No such image: busybox:latest", code: 125},
	}
	for _, s := range steps {
		args := strings.Fields(s.args)
		for i := range args {
			if !strings.Contains(args[i], "/images/") {
				args[i] = strings.ReplaceAll(args[i], "_", " ")
			}
		}
		out, code := h.docker(s.stdin, args...)
		if code != s.code || !strings.Contains(strings.ReplaceAll(out, "\r", ""), s.want) {
			t.Errorf("docker %s: exit %d, want %d and %q\n%s", s.args, code, s.code, s.want, indent(out))
		}
	}
}

func indent(s string) string { return fmt.Sprintf("\t%s", strings.ReplaceAll(s, "\n", "\n\t")) }
