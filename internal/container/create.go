package container

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/container/security"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/logs/driver"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Create makes a container without starting it and returns its ID. The image must be on the node. An empty name makes Create
// invent one; a name in use is a conflict. After an error nothing of the container is left.
func (e *Engine) Create(ctx context.Context, name string, spec Spec) (string, error) {
	ctx = runtime.WithNamespace(ctx)
	if e.Defaults != nil {
		d := e.Defaults()
		d.apply(&spec)
	}
	img, err := e.image(ctx, &spec)
	if err != nil {
		return "", err
	}
	if err := e.checkSpec(&spec); err != nil {
		return "", err
	}
	if spec.Log.Name == "" {
		spec.Log.Name = driver.JSONFile
	}
	if err := driver.Validate(spec.Log.Name, spec.Log.Options); err != nil {
		return "", err
	}
	info := Info{ID: newID(), Spec: spec, ImageID: img.ID, ImageManifest: img.Manifest, Created: time.Now().UTC(), State: State{Status: Created}}
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
	e.publish("create", c, nil)
	return info.ID, nil
}

// image is what a container is made of.
func (e *Engine) image(ctx context.Context, spec *Spec) (*image.Image, error) {
	if spec.Platform == "" {
		return e.Images.Get(ctx, spec.Image)
	}
	platform, err := platforms.Parse(spec.Platform)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return e.Images.GetFor(ctx, spec.Image, &platform)
}

// checkSpec refuses what no start could honour, in Docker's words, and replaces the names of other containers by their IDs.
func (e *Engine) checkSpec(spec *Spec) error {
	if _, err := security.Parse(spec.SecurityOpt); err != nil {
		return err
	}
	if _, err := e.ociRuntime(spec.Runtime); err != nil {
		return err
	}
	for _, rule := range spec.DeviceCgroupRules {
		if _, err := parseDeviceRule(rule); err != nil {
			return err
		}
	}
	if err := e.checkLinks(spec); err != nil {
		return err
	}
	return e.resolveModes(spec)
}

// build makes the container's directory, snapshot, volumes and record on disk. After an error, discard removes what it has made.
func (e *Engine) build(ctx context.Context, info *Info, img *image.Image) error {
	if err := atomicfile.Mkdir(info.Dir, 0o710); err != nil {
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
	encoded, err := json.Marshal(info)
	if err != nil {
		return err
	}
	return saveRecord(info.Dir, encoded, info.Spec.Expendable)
}

// discard removes what build has made.
func (e *Engine) discard(ctx context.Context, info *Info) {
	for _, name := range info.volumes() {
		e.Volumes.RemoveReference(name, info.ID)
		if v, err := e.Volumes.Get(name); err == nil && v.Anonymous {
			_ = e.Volumes.Remove(name, true) // stays if another container uses it
		}
	}
	e.removeImageMounts(ctx, info.ID)
	if err := e.snapshotter().Remove(context.WithoutCancel(ctx), info.ID); err != nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("snapshot of a container that could not be created cannot be removed; it takes space on the disk", "container", info.ID, "err", err)
	}
	_ = os.RemoveAll(info.Dir)
}

// snapshotter keeps the containers' file systems. A container's snapshot has its ID as the key.
func (e *Engine) snapshotter() snapshots.Snapshotter {
	return e.Runtime.Client.SnapshotService(runtime.Snapshotter)
}
