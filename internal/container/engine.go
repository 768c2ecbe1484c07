// Package container runs containers on the node: one path for `docker run` and for tasks. It reads images, volumes and the
// network's sandboxes; it writes containers' records and logs under the data root, containerd's tasks, and events.
//
// A container's life is told in this order: create.go (from the image's defaults to a record on disk), start.go and task.go, exit.go,
// restart.go (the restart policy), stop.go and signal.go, remove.go; restore.go is the daemon's restart. What the container is made of
// is in oci.go and its neighbours: mounts.go, devices.go, systemmounts.go, secretfiles.go.
package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/quarantine"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/volume"
)

// Network sets up and tears down the containers' network sandboxes.
type Network interface {
	// Up makes a container's sandbox. It is idempotent: a sandbox that is up is returned unchanged.
	Up(ctx context.Context, spec shoal.SandboxSpec) (shoal.Sandbox, error)
	// Down removes a container's sandbox. It is no error if there is none.
	Down(ctx context.Context, containerID string) error
}

// Config is what an Engine needs. All fields but CgroupParent are required.
type Config struct {
	Log     *slog.Logger
	Root    string // the directory of the containers' records and logs, data-root/containers
	State   string // the directory of what does not outlive a reboot, exec-root/containers
	Runtime *runtime.Runtime
	Images  *image.Store
	Volumes *volume.Store
	Network Network
	Events  *events.Bus
	// Quarantine takes the directories of containers whose records are malformed.
	Quarantine *quarantine.Quarantine
	// Room is an error if there is no room for so many bytes more of what containers print; if it is nil, there always is room.
	Room func(bytes int64) error
	// CgroupParent is the cgroup that the containers' cgroups are made in; "" means CgroupOf(State).
	CgroupParent string
	// Defaults, optional, is the node's settings for new containers.
	Defaults func() Defaults
}

// Engine creates, runs and removes the node's containers. Its methods are safe for concurrent use. A method that takes a ref
// accepts an ID, a name or a unique prefix of an ID, and fails with a not found error when no container has it.
type Engine struct {
	Config
	closing    chan struct{}  // closed by Close; ends what waits for a container
	close      func()         // closes closing, once
	background sync.WaitGroup // the goroutines that Close waits for

	mu     sync.Mutex            // guards the fields below
	byID   map[string]*container // by their full IDs
	names  map[string]string     // name to ID
	listed bool                  // the directory of the records was read; until then no container is made, for its name may be taken
	execs  map[string]*Exec      // by their IDs; those of health checks go when they have ended, others with their container
}

// CgroupOf returns the parent cgroup of a node that has none configured. It is derived from the state directory, so that nodes
// on one machine get different ones.
func CgroupOf(state string) string {
	sum := sha256.Sum256([]byte(state))
	return "/shoal-" + hex.EncodeToString(sum[:6])
}

// New returns an Engine without containers. Call Restore before any other method, and Close at the end.
func New(c Config) *Engine {
	if c.CgroupParent == "" {
		c.CgroupParent = CgroupOf(c.State)
	}
	closing := make(chan struct{})
	return &Engine{Config: c, closing: closing, close: sync.OnceFunc(func() { close(closing) }), byID: map[string]*container{}, names: map[string]string{}, execs: map[string]*Exec{}}
}

// Close stops watching the containers, which keep running, and returns when the Engine's goroutines have ended. What waits in Wait or
// Attach returns. Calling it again does nothing.
func (e *Engine) Close() {
	e.close()
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.byID))
	e.mu.Unlock()
	for _, c := range all {
		c.log.Close()
	}
	e.background.Wait()
	cgroup.Remove(e.CgroupParent) // stays while containers run in it
}

// inBackground runs f, which is part of a container's life, in a goroutine that Close waits for. If f meets a fault of ours, the container stays as its record has
// it, also if it ends, and is named among the node's problems; the daemon's next start finds what has become of it.
func (e *Engine) inBackground(c *container, part string, f func()) {
	e.background.Go(func() {
		if err := fault.Contain(e.Log, part+" of container "+c.id, func() error { f(); return nil }); err != nil {
			e.Quarantine.Note(part+" of container "+c.id, err)
		}
	})
}

// untilClosed returns a context for work that outlives the request that starts it. It ends at Close, or when the returned function is
// called, which the caller must do. It is not made from the caller's context: the goroutine that watched a container's last run
// begins its next, so that a chain of contexts would grow with every restart.
func (e *Engine) untilClosed() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(runtime.WithNamespace(context.Background()))
	go func() {
		select {
		case <-e.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// find returns the container with an ID, a name or a unique prefix of an ID.
func (e *Engine) find(ref string) (*container, error) {
	c, err := e.findByName(ref)
	if errdefs.IsNotFound(err) {
		if target := e.linkTarget(ref); target != "" {
			return e.findByName(target)
		}
	}
	return c, err
}

func (e *Engine) findByName(ref string) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ref = strings.TrimPrefix(ref, "/")
	if c, ok := e.byID[ref]; ok {
		return c, nil
	}
	if c, ok := e.byID[e.names[ref]]; ok { // a name is reserved before there is a container
		return c, nil
	}
	var found *container
	for id, c := range e.byID {
		if ref != "" && strings.HasPrefix(id, ref) {
			if found != nil {
				return nil, errdefs.ErrInvalidArgument.WithMessage("multiple IDs found with provided prefix: " + ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, noSuchContainer(ref)
	}
	return found, nil
}

// findRunning is find for what can only be done to a container that runs. It returns the container's record and task too. A container that
// does not run is a conflict.
func (e *Engine) findRunning(ref string) (*container, Info, client.Task, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, Info{}, nil, err
	}
	info, task, _ := c.currentTask()
	if task == nil {
		return nil, Info{}, nil, notRunning(info)
	}
	return c, info, task, nil
}

// noSuchContainer is Docker's error for a container that the node does not have.
func noSuchContainer(ref string) error {
	return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

// List returns the containers that have all the given labels (an empty value matches any), newest first.
func (e *Engine) List(labels map[string]string) []Info {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.byID))
	e.mu.Unlock()
	var found []Info
	for _, c := range all {
		info, _ := c.snapshot()
		matches := true
		for k, v := range labels {
			have, ok := info.Labels[k]
			matches = matches && ok && (v == "" || v == have)
		}
		if matches {
			found = append(found, info)
		}
	}
	slices.SortFunc(found, func(a, b Info) int { return b.Created.Compare(a.Created) })
	return found
}

// Using returns the IDs of the containers made from an image for one platform, nil if there are none.
func (e *Engine) Using(imageID string) []string {
	var ids []string
	for _, info := range e.List(nil) {
		if info.ImageID == imageID {
			ids = append(ids, info.ID)
		}
	}
	return ids
}

// ImageUsers lists the containers' uses of images.
func (e *Engine) ImageUsers() []image.User {
	var users []image.User
	for _, info := range e.List(nil) {
		users = append(users, image.User{Container: info.ID, Image: info.Spec.Image, ImageID: info.ImageID, Running: running(info.State.Status)})
		for _, m := range info.Mounts {
			if m.Type == "image" {
				users = append(users, image.User{Container: info.ID, Image: m.Name, ImageID: m.Source, Running: running(info.State.Status)})
			}
		}
	}
	return users
}
