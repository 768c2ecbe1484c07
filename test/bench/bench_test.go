package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/images"
	"github.com/shoal-dev/shoal/test/lab"
)

// sizes is how many tasks are started at once, and how often.
var sizes = []struct{ tasks, times int }{{1, 11}, {10, 7}, {50, 3}}

// figures is what one engine showed.
type figures struct {
	start map[int]time.Duration
	idle  memory
	orchestration
}

// BenchmarkNode measures shoal, the raw runtime and Docker one after the other and prints the ratios. SHOAL_BENCH_DOCKER=off
// leaves Docker out.
func BenchmarkNode(b *testing.B) {
	ctx := b.Context()
	archives, err := images.Build(ctx, images.CacheDir())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		shoal, raw := measureShoal(ctx, b, archives["busybox"])
		docker, err := measureDocker(ctx, b, archives["busybox"])
		if err != nil {
			fmt.Printf("Docker is left out: %v\n", err)
		}
		report(b, shoal, raw, docker)
	}
}

func report(b *testing.B, shoal, raw figures, docker *figures) {
	b.Helper()
	ratio := func(name string, ours, theirs float64) string {
		b.ReportMetric(ours/theirs, name)
		return fmt.Sprintf("%.2f", ours/theirs)
	}
	fmt.Printf("\n%-18s %10s %10s %7s %10s %7s\n", "create → running", "shoal", "runc", "ratio", "docker", "ratio")
	for _, s := range sizes {
		ours, floor := shoal.start[s.tasks], raw.start[s.tasks]
		line := fmt.Sprintf("%-18s %8dms %8dms %7s", fmt.Sprint(s.tasks, " tasks"), ours.Milliseconds(), floor.Milliseconds(),
			ratio(fmt.Sprintf("start%d/runc", s.tasks), float64(ours), float64(floor)))
		if docker != nil {
			theirs := docker.start[s.tasks]
			line += fmt.Sprintf(" %8dms %7s", theirs.Milliseconds(), ratio(fmt.Sprintf("start%d/docker", s.tasks), float64(ours), float64(theirs)))
		}
		fmt.Println(line)
	}
	var theirs orchestration
	if docker != nil {
		theirs = docker.orchestration
	}
	for _, row := range []struct {
		name        string
		ours, yours time.Duration
	}{
		{"one more task, of 30 at once", shoal.up, theirs.up},
		{"likewise, on an overlay", shoal.upOverlay, theirs.upOverlay},
		{"update of 10, 5 at a time", shoal.update, theirs.update},
		{"death → replacement beyond the delay", shoal.replacement, theirs.replacement},
	} {
		line := fmt.Sprintf("%-38s %8.1fms", row.name, row.ours.Seconds()*1000)
		if docker != nil {
			line += fmt.Sprintf(", docker %8.1fms, ratio %s", row.yours.Seconds()*1000, ratio(strings.ReplaceAll(row.name, " ", "-")+"/docker", float64(row.ours), float64(row.yours)))
		}
		fmt.Println(line)
	}
	fmt.Printf("idle manager: shoal %v", shoal.idle)
	if docker != nil {
		fmt.Printf("; docker %v; ratio of RSS %s, of PSS %s", docker.idle,
			ratio("rss/docker", float64(shoal.idle.rss), float64(docker.idle.rss)), ratio("pss/docker", float64(shoal.idle.pss), float64(docker.idle.pss)))
	}
	fmt.Printf("\n\n")
}

// settle is how long a new manager is left alone before its memory is read.
const settle = 15 * time.Second

func idle(ctx context.Context, pids ...int) (memory, error) {
	select {
	case <-ctx.Done():
		return memory{}, ctx.Err()
	case <-time.After(settle):
	}
	return memoryOf(pids...)
}

func (s swarm) figures(ctx context.Context, pids ...int) (figures, error) {
	f := figures{start: map[int]time.Duration{}}
	var err error
	if f.idle, err = idle(ctx, pids...); err != nil {
		return f, err
	}
	for _, size := range sizes {
		if f.start[size.tasks], err = s.measure(ctx, size.tasks, size.times); err != nil {
			return f, err
		}
	}
	f.orchestration, err = s.orchestrate(ctx)
	return f, err
}

// newShoal is a cluster of three nodes with an image, which ends with the benchmark.
func newShoal(b *testing.B, name, archive string) (swarm, *lab.Lab) {
	b.Helper()
	binary, err := filepath.Abs("../../bin/shoal")
	if err != nil {
		b.Fatal(err)
	}
	l, err := lab.New(name, "", binary)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	var s swarm
	var addrs []string
	for i := range 3 {
		n, err := l.AddNode(fmt.Sprintf("n%d", i+1), 11+i)
		if err != nil {
			b.Fatal(err)
		}
		e := dial(n.Socket())
		if err := e.load(b.Context(), archive); err != nil {
			b.Fatal(err)
		}
		s, addrs = append(s, e), append(addrs, n.Addr)
	}
	if err := s.join(b.Context(), addrs); err != nil {
		b.Fatal(err)
	}
	return s, l
}

func measureShoal(ctx context.Context, b *testing.B, archive string) (shoal, raw figures) {
	b.Helper()
	s, l := newShoal(b, "bench", archive)
	var err error
	if shoal, err = s.figures(ctx, l.Nodes()[0].PID()); err != nil {
		b.Fatal(err)
	}
	if raw, err = measureFloor(ctx, s, l, archive); err != nil {
		b.Fatal(err)
	}
	return shoal, raw
}

// measureFloor starts the same containers without an engine.
func measureFloor(ctx context.Context, s swarm, l *lab.Lab, archive string) (figures, error) {
	raw := figures{start: map[int]time.Duration{}}
	if _, err := s.start(ctx, "model", 1); err != nil {
		return raw, err
	}
	configs, _ := filepath.Glob(filepath.Join(l.Dir, "*/run/ctd/io.containerd.runtime.v2.task/shoal/*/config.json"))
	if len(configs) == 0 {
		return raw, fmt.Errorf("no container to compare with: %w", os.ErrNotExist)
	}
	runtimes, _ := filepath.Glob(filepath.Join(l.Dir, "*/data/containerd/programs/*/runc"))
	if len(runtimes) == 0 {
		runtimes = []string{"runc"}
	}
	f, err := newFloor(ctx, runtimes[0], filepath.Join(l.Dir, "floor"), archive, configs[0])
	if err != nil {
		return raw, err
	}
	if err := s.remove(ctx, "model"); err != nil {
		return raw, err
	}
	for _, size := range sizes {
		if raw.start[size.tasks], err = f.measure(ctx, size.tasks, size.times); err != nil {
			return raw, err
		}
	}
	return raw, f.close()
}

// measureDocker measures Debian's Docker; an error says why it cannot be had here.
func measureDocker(ctx context.Context, b *testing.B, archive string) (*figures, error) {
	b.Helper()
	if strings.EqualFold(os.Getenv("SHOAL_BENCH_DOCKER"), "off") {
		return nil, fmt.Errorf("SHOAL_BENCH_DOCKER is off")
	}
	root, err := fetchDocker(ctx, filepath.Join(images.CacheDir(), "..", "docker"))
	if err != nil {
		return nil, err
	}
	l, err := lab.New("benchd", "", "")
	if err != nil {
		return nil, err
	}
	var nodes []*dockerNode
	defer func() {
		for _, n := range nodes {
			if err := n.stop(); err != nil {
				b.Error(err)
			}
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}()
	var s swarm
	var addrs []string
	for i := range 3 {
		host, err := l.AddHost(fmt.Sprintf("d%d", i+1), 11+i)
		if err != nil {
			return nil, err
		}
		n, err := startDocker(ctx, root, host, filepath.Join(l.Dir, host.Name))
		if n != nil {
			nodes = append(nodes, n)
		}
		if err != nil {
			return nil, err
		}
		e := dial(n.socket())
		if err := e.load(ctx, archive); err != nil {
			return nil, err
		}
		s, addrs = append(s, e), append(addrs, host.Addr)
	}
	if err := s.join(ctx, addrs); err != nil {
		return nil, err
	}
	pids, err := nodes[0].processes()
	if err != nil {
		return nil, err
	}
	f, err := s.figures(ctx, pids...)
	return &f, err
}
