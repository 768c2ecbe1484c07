package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// floor starts containers with nothing but overlay mounts and the OCI runtime: what no engine that uses it can beat.
type floor struct {
	runtime string
	dir     string
	spec    specs.Spec
}

// parallel is how many runtimes run at once. Two cores are kept busy by two; a few more hide their waits.
const parallel = 4

// newFloor takes the configuration of a container that shoal runs, for the comparison to be of like with like: its network
// namespace and the files of its sandbox alone are replaced by a new namespace and nothing.
func newFloor(ctx context.Context, runtime, dir, archive, config string) (*floor, error) {
	f := &floor{runtime: runtime, dir: dir}
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &f.spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", config, err)
	}
	for i := range f.spec.Linux.Namespaces {
		f.spec.Linux.Namespaces[i].Path = ""
	}
	var mounts []specs.Mount
	for _, m := range f.spec.Mounts {
		if m.Type != "bind" {
			mounts = append(mounts, m)
		}
	}
	f.spec.Mounts = mounts
	f.spec.Hooks = nil
	return f, f.extract(ctx, archive)
}

func (f *floor) image() string { return filepath.Join(f.dir, "image") }

// extract unpacks an image's file system.
func (f *floor) extract(ctx context.Context, archive string) error {
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	if err := os.MkdirAll(f.image(), 0o755); err != nil {
		return err
	}
	tar := exec.CommandContext(ctx, "tar", "-x", "-C", f.image())
	layers := mutate.Extract(img)
	defer func() { _ = layers.Close() }()
	tar.Stdin = layers
	if text, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", archive, err, text)
	}
	return nil
}

// measure is the median time of several starts of n containers.
func (f *floor) measure(ctx context.Context, n, times int) (time.Duration, error) {
	var took []time.Duration
	for range times {
		began := time.Now()
		err := f.each(ctx, n, f.start)
		took = append(took, time.Since(began))
		if err := errors.Join(err, f.each(ctx, n, f.remove)); err != nil {
			return 0, err
		}
	}
	return median(took), nil
}

func (f *floor) each(ctx context.Context, n int, do func(ctx context.Context, id string) error) error {
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error { return do(ctx, fmt.Sprintf("floor-%d", i)) })
	}
	return group.Wait()
}

func (f *floor) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, f.runtime, append([]string{"--root", filepath.Join(f.dir, "state")}, args...)...)
	log, err := os.CreateTemp(f.dir, "log-*") // no pipe: the container would hold it open
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(log.Name()); _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name()) // says more if it can be read
		return fmt.Errorf("%s %v: %w: %s", f.runtime, args, err, text)
	}
	return nil
}

func (f *floor) start(ctx context.Context, id string) error {
	bundle := filepath.Join(f.dir, id)
	root := filepath.Join(bundle, "rootfs")
	for _, dir := range []string{root, filepath.Join(bundle, "upper"), filepath.Join(bundle, "work")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", f.image(), bundle, bundle)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	spec, linux := f.spec, *f.spec.Linux
	linux.CgroupsPath = "/shoal-bench-floor/" + id
	spec.Linux = &linux
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		return err
	}
	return f.run(ctx, "run", "--detach", "--bundle", bundle, id)
}

func (f *floor) remove(ctx context.Context, id string) error {
	bundle := filepath.Join(f.dir, id)
	return errors.Join(
		f.run(context.WithoutCancel(ctx), "delete", "--force", id),
		unix.Unmount(filepath.Join(bundle, "rootfs"), unix.MNT_DETACH), os.RemoveAll(bundle),
	)
}

// close removes what is left: the cgroups' parents.
func (f *floor) close() error {
	parents, _ := filepath.Glob("/sys/fs/cgroup/*/shoal-bench-floor") // the pattern is well-formed
	parents = append(parents, "/sys/fs/cgroup/shoal-bench-floor")
	var errs []error
	for _, p := range parents {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
