package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/logs"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/volume"
	"github.com/shoal-dev/shoal/test/images"
)

// plainNetwork gives every container an empty network namespace.
type plainNetwork struct{ prefix string }

func (n plainNetwork) name(id string) string { return n.prefix + id[:12] }

func (n plainNetwork) Up(_ context.Context, s shoal.SandboxSpec) (shoal.Sandbox, error) {
	path := "/run/netns/" + n.name(s.ContainerID)
	if _, err := os.Stat(path); err == nil {
		return shoal.Sandbox{Netns: path}, nil
	}
	done := make(chan error, 1)
	go func() { // on a thread of its own, which ends in the new namespace
		lockThread()
		h, err := netns.NewNamed(n.name(s.ContainerID))
		if err == nil {
			h.Close()
		}
		done <- err
	}()
	return shoal.Sandbox{Netns: path}, <-done
}

func (n plainNetwork) Down(_ context.Context, id string) error {
	if _, err := os.Stat("/run/netns/" + n.name(id)); err != nil {
		return nil
	}
	return netns.DeleteNamed(n.name(id))
}

// node is an engine with all that it stands on, in directories of its own.
type node struct {
	t      testing.TB
	dir    string
	rt     *runtime.Runtime
	engine *Engine
	events *events.Bus
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	n := &node{t: t, dir: t.TempDir()}
	n.up()
	t.Cleanup(func() {
		for _, info := range n.engine.List(nil) {
			if err := n.engine.Remove(context.Background(), info.ID, true, true); err != nil {
				t.Errorf("remove %s: %v", info.Name, err)
			}
		}
		n.down()
	})
	paths, err := images.Build(t.Context(), images.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(paths["busybox"])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := n.engine.Images.Load(t.Context(), f, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

// up starts the node's daemon part, again after down.
func (n *node) up() {
	n.t.Helper()
	ctx, log := context.Background(), slog.New(slog.NewTextHandler(n.t.Output(), nil))
	rt, err := runtime.Start(ctx, runtime.Config{Log: log, Root: filepath.Join(n.dir, "root"), State: filepath.Join(n.dir, "state")})
	if err != nil {
		n.t.Fatal(err)
	}
	bus := &events.Bus{}
	volumes, err := volume.New(volume.Config{Log: log, Root: filepath.Join(n.dir, "volumes"), Events: bus, Quarantine: quarantine.Open(filepath.Join(n.dir, "quarantine"), log, bus)})
	if err != nil {
		n.t.Fatal(err)
	}
	n.rt, n.events = rt, bus
	n.engine = New(Config{
		Log: log, Root: filepath.Join(n.dir, "containers"), State: filepath.Join(n.dir, "state", "c"), Runtime: rt,
		Images:  image.New(image.Config{Log: log, Client: rt.Client, Events: bus, Registries: registry.New(n.t.TempDir(), registry.Settings{})}),
		Volumes: volumes, Network: plainNetwork{"shoalt-"}, Events: bus, Quarantine: quarantine.Open(filepath.Join(n.dir, "quarantine"), log, bus),
	})
	if err := n.engine.Restore(ctx); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) down() {
	n.engine.Close()
	if err := n.rt.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) run(s Spec) string {
	n.t.Helper()
	if s.Image == "" {
		s.Image = "busybox"
	}
	id, err := n.engine.Create(context.Background(), "", s)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.engine.Start(context.Background(), id); err != nil {
		n.t.Fatal(err)
	}
	return id
}

func (n *node) end(id string) Info {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := n.engine.Wait(ctx, id, NotRunning, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return info
}

func (n *node) logs(id string, stream logs.Stream) string {
	n.t.Helper()
	var out strings.Builder
	q := logs.Query{Tail: -1, Stdout: stream == logs.Stdout, Stderr: stream == logs.Stderr}
	if err := n.engine.Logs(context.Background(), id, q, func(l logs.Line) error { out.WriteString(l.Text); return nil }); err != nil {
		n.t.Fatal(err)
	}
	return out.String()
}

func TestExitCodeAndOutput(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}})
	info := n.end(id)
	if info.State.ExitCode != 7 || info.State.Status != Exited {
		t.Errorf("state %+v", info.State)
	}
	if out := n.logs(id, logs.Stdout); out != "out\n" {
		t.Errorf("stdout %q", out)
	}
	if out := n.logs(id, logs.Stderr); out != "err\n" {
		t.Errorf("stderr %q", out)
	}
}

func TestMissingCommandIsReportedInDockersWords(t *testing.T) {
	n := newNode(t)
	id, err := n.engine.Create(t.Context(), "nocmd", Spec{Image: "busybox", Cmd: []string{"/no/such"}})
	if err != nil {
		t.Fatal(err)
	}
	err = n.engine.Start(t.Context(), id)
	want := `failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/no/such": stat /no/such: no such file or directory`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if info, _ := n.engine.Inspect(id); info.State.ExitCode != 127 {
		t.Errorf("state %+v", info.State)
	}
}

func TestExecSeparatesStreams(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sleep", "1000"}})
	x, err := n.engine.ExecCreate(id, ExecSpec{Cmd: []string{"sh", "-c", "cat; echo e >&2; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if err := n.engine.ExecStart(t.Context(), x.ID, strings.NewReader("hello"), &out, &errOut, nil); err != nil {
		t.Fatal(err)
	}
	if code := x.State().ExitCode; code == nil || *code != 3 || out.String() != "hello" || errOut.String() != "e\n" {
		t.Errorf("code %v, stdout %q, stderr %q", code, out.String(), errOut.String())
	}
}

// Of many commands at once, on a busy machine, some lost their output: they were deleted before their streams had been opened.
func TestExecLosesNoOutput(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sleep", "1000"}})
	var running errgroup.Group
	running.SetLimit(64)
	for range 200 {
		running.Go(func() error {
			x, err := n.engine.ExecCreate(id, ExecSpec{Cmd: []string{"echo", "hi"}, Stdout: true})
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := n.engine.ExecStart(t.Context(), x.ID, nil, &out, nil, nil); err != nil {
				return err
			}
			if code := x.State().ExitCode; code == nil || *code != 0 || out.String() != "hi\n" {
				return fmt.Errorf("exit %v, output %q", code, out.String())
			}
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		t.Error(err)
	}
}

func TestContainersOutliveTheDaemon(t *testing.T) {
	n := newNode(t)
	lives := n.run(Spec{Cmd: []string{"sleep", "1000"}})
	flag := filepath.Join(t.TempDir(), "go")
	if err := os.Mkdir(flag, 0o755); err != nil {
		t.Fatal(err)
	}
	ends := n.run(Spec{
		Cmd:    []string{"sh", "-c", "while [ ! -e /flag/now ]; do sleep 0.05; done; exit 9"},
		Mounts: []shoal.Mount{{Type: "bind", Source: flag, Target: "/flag"}},
	})
	before, _ := n.engine.Inspect(lives)
	ending, _ := n.engine.Inspect(ends)
	n.down()
	if err := os.WriteFile(filepath.Join(flag, "now"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	waitGone(t, ending.State.PID)
	n.up()
	if after, _ := n.engine.Inspect(lives); after.State.Status != Running || after.State.PID != before.State.PID {
		t.Errorf("before %+v, after %+v", before.State, after.State)
	}
	if info := n.end(ends); info.State.ExitCode != 9 {
		t.Errorf("ended meanwhile: %+v", info.State)
	}
	if err := n.engine.Stop(t.Context(), lives, time.Second); err != nil {
		t.Fatal(err)
	}
	if info := n.end(lives); info.State.ExitCode != 137 {
		t.Errorf("stopped: %+v", info.State)
	}
}

// waitGone waits until a process has ended.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tail", "--pid", fmt.Sprint(pid), "-s", "0.05", "-f", "/dev/null")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

func TestVolumeIsFilledFromTheImage(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"cat", "/etc/hostname", "/etc/group"}, Mounts: []shoal.Mount{{Type: "volume", Source: "etc", Target: "/etc"}}})
	n.end(id)
	if out := n.logs(id, logs.Stdout); !strings.Contains(out, "www-data") {
		t.Errorf("output %q", out)
	}
}

func TestOutOfMemoryIsNoticed(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sh", "-c", "x=a; while :; do x=$x$x; done"}, Resources: Resources{Memory: 8 << 20, MemorySwap: 8 << 20}})
	if info := n.end(id); !info.State.OOMKilled || info.State.ExitCode != 137 {
		t.Errorf("state %+v", info.State)
	}
}

func TestHealthIsFollowed(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sleep", "1000"}, Healthcheck: &shoal.Healthcheck{Test: []string{"CMD", "true"}, Interval: 50 * time.Millisecond}})
	deadline := time.After(10 * time.Second)
	for {
		info, changed, err := n.engine.Watch(id)
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Health != nil && info.State.Health.Status == Healthy {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("state %+v", info.State.Health)
		}
	}
}

func TestSecretsAreFilesInMemory(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sh", "-c", "cat /run/secrets/s; stat -c %a /run/secrets/s"}, Files: []File{{Target: "/run/secrets/s", Data: []byte("hush\n"), Mode: 0o440}}})
	n.end(id)
	if out := n.logs(id, logs.Stdout); out != "hush\n440\n" {
		t.Errorf("output %q, %q", out, n.logs(id, logs.Stderr))
	}
}

// BenchmarkStart measures create and start of many containers at once.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	const many = 20
	for b.Loop() {
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() { n.run(Spec{Cmd: []string{"sleep", "1000"}}) })
		}
		wg.Wait()
		b.StopTimer()
		for _, info := range n.engine.List(nil) {
			if err := n.engine.Remove(context.Background(), info.ID, true, true); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(many*b.N)/b.Elapsed().Seconds(), "containers/s")
}

// A power cut left a container's record with length 0, and its directory was deleted at the next start. So it was after any other error in reading it.
func TestARecordThatCannotBeReadCostsNoContainer(t *testing.T) {
	n := newNode(t)
	good, cut, unreadable := n.run(Spec{Cmd: []string{"echo", "good"}}), n.run(Spec{Cmd: []string{"echo", "cut"}}), n.run(Spec{Cmd: []string{"true"}})
	for _, id := range []string{good, cut, unreadable} {
		n.end(id)
	}
	n.down()
	dir := func(id string) string { return filepath.Join(n.dir, "containers", id) }
	record := func(id string) string { return filepath.Join(dir(id), recordFile) }
	if err := os.Truncate(record(cut), 0); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(record(unreadable))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(record(unreadable)), os.Mkdir(record(unreadable), 0o700), os.Mkdir(dir("begun"), 0o700), os.WriteFile(record("begun")+".new", []byte("half a rec"), 0o600)); err != nil { // a read of it fails
		t.Fatal(err)
	}
	n.up()
	if _, err := n.engine.Inspect(good); err != nil {
		t.Error(err)
	}
	if items := n.engine.Quarantine.Items(); len(items) != 1 || items[0].Path != dir(cut) {
		t.Errorf("set aside: %+v", items)
	} else if _, err := os.Stat(filepath.Join(items[0].Now, cut+"-json.log")); err != nil {
		t.Errorf("its log: %v", err)
	}
	if _, err := os.Stat(dir("begun")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a container whose creation was cut off: %v", err)
	}
	n.down()
	if err := errors.Join(os.Remove(record(unreadable)), os.WriteFile(record(unreadable), kept, 0o600)); err != nil { // the fault of the disk is over
		t.Fatal(err)
	}
	n.up()
	if _, err := n.engine.Inspect(unreadable); err != nil {
		t.Error(err)
	}
}
