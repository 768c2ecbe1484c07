package container

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/logs"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Create makes a container without starting it and returns its ID. The image must be on the node. An empty name makes Create
// invent one; a name in use is a conflict. After an error nothing of the container is left.
func (e *Engine) Create(ctx context.Context, name string, spec Spec) (string, error) {
	ctx = runtime.WithNamespace(ctx)
	img, err := e.Images.Get(ctx, spec.Image)
	if err != nil {
		return "", err
	}
	opts, err := logs.ParseOptions(spec.Log.Name, spec.Log.Options)
	if err != nil {
		return "", err
	}
	if spec.Log.Name == "" {
		spec.Log.Name = opts.Driver
	}
	info := Info{ID: newID(), Spec: spec, ImageID: img.ID, Created: time.Now().UTC(), State: State{Status: Created}}
	applyImageDefaults(&info, img)
	if info.Path == "" {
		return "", errdefs.ErrInvalidArgument.WithMessage("no command specified")
	}
	if info.Name, err = e.reserveName(name, info.ID); err != nil {
		return "", err
	}
	info.Dir = filepath.Join(e.Root, info.ID)
	if err := e.build(ctx, &info, img); err != nil {
		e.releaseName(info.Name)
		e.discard(ctx, &info)
		return "", err
	}
	c := e.register(info)
	c.image = img
	e.publish("create", c, nil)
	return info.ID, nil
}

// build makes the container's directory, snapshot, volumes and record on disk.
func (e *Engine) build(ctx context.Context, info *Info, img *image.Image) error {
	if err := os.MkdirAll(info.Dir, 0o710); err != nil {
		return fmt.Errorf("make container directory: %w", err)
	}
	if err := e.Images.Unpack(ctx, img); err != nil {
		return err
	}
	// The label keeps containerd's garbage collector from removing the snapshot before the container is removed.
	root := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": info.Created.Format(time.RFC3339)})
	if _, err := e.snapshotter().Prepare(ctx, info.ID, img.ChainID, root); err != nil {
		return fmt.Errorf("prepare snapshot: %w", err)
	}
	if err := e.makeMounts(ctx, info); err != nil {
		return err
	}
	return save(*info)
}

// discard undoes build.
func (e *Engine) discard(ctx context.Context, info *Info) {
	for _, m := range info.Mounts {
		if m.Type == "volume" {
			e.Volumes.RemoveReference(m.Name, info.ID)
			if v, err := e.Volumes.Get(m.Name); err == nil && v.Anonymous {
				_ = e.Volumes.Remove(m.Name, true)
			}
		}
	}
	if err := e.snapshotter().Remove(context.WithoutCancel(ctx), info.ID); err != nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("snapshot cannot be removed", "container", info.ID, "err", err)
	}
	_ = os.RemoveAll(info.Dir)
}

func (e *Engine) snapshotter() snapshots.Snapshotter {
	return e.Runtime.Client.SnapshotService(runtime.Snapshotter)
}

// applyImageDefaults fills the fields that the spec leaves empty from the image's configuration.
func applyImageDefaults(info *Info, img *image.Image) {
	s, c := info.Spec, img.Spec.Config
	info.Entrypoint, info.Cmd = s.Entrypoint, s.Cmd
	if s.Entrypoint == nil {
		info.Entrypoint = c.Entrypoint
		if len(s.Cmd) == 0 {
			info.Cmd = c.Cmd
		}
	}
	command := slices.Concat(info.Entrypoint, info.Cmd)
	if len(command) > 0 {
		info.Path, info.Args = command[0], command[1:]
	}
	info.User, info.WorkingDir, info.StopSignal = cmp.Or(s.User, c.User), cmp.Or(s.WorkingDir, c.WorkingDir), cmp.Or(s.StopSignal, c.StopSignal)
	info.Labels = maps.Clone(c.Labels)
	if info.Labels == nil {
		info.Labels = map[string]string{}
	}
	maps.Copy(info.Labels, s.Labels)
	info.Env = mergeEnv(c.Env, s.Env)
	for v := range c.Volumes {
		if !slices.Contains(info.Spec.Volumes, v) {
			info.Spec.Volumes = append(info.Spec.Volumes, v)
		}
	}
	for p := range c.ExposedPorts {
		if !strings.Contains(p, "/") {
			p += "/tcp"
		}
		if !slices.Contains(info.Spec.ExposedPorts, p) {
			info.Spec.ExposedPorts = append(info.Spec.ExposedPorts, p)
		}
	}
	slices.Sort(info.Spec.ExposedPorts)
	info.Healthcheck = s.Healthcheck
	if h := c.Healthcheck; h != nil && (s.Healthcheck == nil || len(s.Healthcheck.Test) == 0) {
		merged := shoal.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
		if o := s.Healthcheck; o != nil {
			overrideHealthcheck(&merged, o)
		}
		info.Healthcheck = &merged
	}
	if info.Spec.Hostname == "" && s.UTSMode != "host" && s.Network.Mode != "host" {
		info.Spec.Hostname = info.ID[:12]
	}
}

func overrideHealthcheck(h, o *shoal.Healthcheck) {
	for _, pair := range []struct{ to, from *time.Duration }{
		{&h.Interval, &o.Interval}, {&h.Timeout, &o.Timeout}, {&h.StartPeriod, &o.StartPeriod}, {&h.StartInterval, &o.StartInterval},
	} {
		if *pair.from != 0 {
			*pair.to = *pair.from
		}
	}
	if o.Retries != 0 {
		h.Retries = o.Retries
	}
}

// mergeEnv overrides the variables of base with those of over; a "NAME" without a value removes the variable.
func mergeEnv(base, over []string) []string {
	env := slices.Clone(base)
	for _, kv := range over {
		key, _, hasValue := strings.Cut(kv, "=")
		at := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		switch {
		case at >= 0 && hasValue:
			env[at] = kv
		case at >= 0:
			env = slices.Delete(env, at, at+1)
		case hasValue:
			env = append(env, kv)
		}
	}
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	}
	return env
}
