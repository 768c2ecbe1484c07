// Package container runs containers on the node: one path for `docker run` and for tasks. It reads images, volumes and the
// network's sandboxes; it writes containers' records and logs under the data root, containerd's tasks, and events.
package container

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/logs"
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
	Root    string // data-root/containers
	State   string // exec-root/containers, for what does not outlive a reboot
	Runtime *runtime.Runtime
	Images  *image.Store
	Volumes *volume.Store
	Network Network
	Events  *events.Bus
	// CgroupParent is the node's cgroup; derived from State when empty.
	CgroupParent string
}

// Engine creates, runs and removes the node's containers. Its methods are safe for concurrent use. A method that takes a ref
// accepts an ID, a name or a unique prefix of an ID, and fails with a not found error when no container has it.
type Engine struct {
	Config
	// closing is closed by close, at Close, and ends the goroutines that background counts.
	closing    chan struct{}
	close      func()
	background sync.WaitGroup
	mu         sync.Mutex // guards byID, names, execs
	byID       map[string]*container
	names      map[string]string
	execs      map[string]*Exec
}

// container is one container: its record, and its task while it runs.
type container struct {
	op sync.Mutex // serializes start, stop, pause, update and remove; taken before mu

	mu      sync.Mutex // guards the fields below
	info    Info
	changed chan struct{} // closed and replaced at every change
	task    client.Task
	ended   chan struct{}      // closed when the running task has been cleaned up
	retry   context.CancelFunc // ends the wait before a restart
	removed bool
	// stdinEnded is set when the input of the task that runs, or is about to, has ended.
	stdinEnded bool

	log   *logs.Log
	stdio *stdio
	image *image.Image
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

// Close stops watching the containers, which keep running, and waits until nothing of the Engine runs any more.
func (e *Engine) Close() {
	e.close()
	e.background.Wait()
	e.removeCgroup(e.CgroupParent) // the kernel refuses while containers run in it
}

// untilClosed returns a context for work that outlives the request that starts it. It ends at Close, or when the returned function is
// called, which the caller must do. It carries nothing of the request: each restart of a container begins in the work that watched the
// run before, so that a context made from the caller's would grow with every restart.
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

var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// find returns the container with an ID, a name or a unique prefix of an ID.
func (e *Engine) find(ref string) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ref = strings.TrimPrefix(ref, "/")
	if c, ok := e.byID[ref]; ok {
		return c, nil
	}
	if id, ok := e.names[ref]; ok {
		return e.byID[id], nil
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

// noSuchContainer is Docker's error for a container that the node does not have.
func noSuchContainer(ref string) error {
	return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

// Inspect returns a copy of a container's record.
func (e *Engine) Inspect(ref string) (Info, error) {
	info, _, err := e.Watch(ref)
	return info, err
}

// Watch returns a copy of a container's record, and a channel that is closed at the next change of that record. After a change,
// call Watch again.
func (e *Engine) Watch(ref string) (Info, <-chan struct{}, error) {
	c, err := e.find(ref)
	if err != nil {
		return Info{}, nil, err
	}
	info, changed := c.snapshot()
	return info, changed, nil
}

func (c *container) snapshot() (Info, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.info
	info.ExecIDs = slices.Clone(info.ExecIDs)
	if info.State.Health != nil {
		h := *info.State.Health
		h.Log = slices.Clone(h.Log)
		info.State.Health = &h
	}
	return info, c.changed
}

// update changes a container's record, writes it to disk and wakes the watchers. A failed write is logged: the record in memory
// stays changed.
func (e *Engine) update(c *container, change func(*Info)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.info)
	close(c.changed)
	c.changed = make(chan struct{})
	if c.removed {
		return
	}
	if err := save(c.info); err != nil {
		e.Log.Error("container record cannot be written; after a restart of the daemon the container has its previous state", "container", c.info.ID, "err", err)
	}
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

// Using returns the IDs of the containers made from an image, nil if there are none.
func (e *Engine) Using(imageID string) []string {
	var ids []string
	for _, info := range e.List(nil) {
		if info.ImageID == imageID {
			ids = append(ids, info.ID)
		}
	}
	return ids
}

// reserveName takes a name for a container, and invents one if name is empty.
func (e *Engine) reserveName(name, id string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		name = shoal.InventName(func(name string) bool { _, taken := e.names[name]; return taken })
	}
	if !nameRule.MatchString(name) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name))
	}
	if holder, taken := e.names[name]; taken {
		return "", errdefs.ErrConflict.WithMessage(fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
			"/"+name, holder))
	}
	e.names[name] = id
	return name, nil
}

func (e *Engine) releaseName(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.names, name)
}

// Rename gives a container another name. An empty or malformed name is an invalid argument, one in use a conflict.
func (e *Engine) Rename(ref, name string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	info, _ := c.snapshot()
	if name == "" {
		return errdefs.ErrInvalidArgument.WithMessage("Neither old nor new names may be empty")
	}
	if name, err = e.reserveName(name, info.ID); err != nil {
		return err
	}
	old := info.Name
	e.update(c, func(i *Info) { i.Name = name })
	e.releaseName(old)
	e.publish("rename", c, map[string]string{"oldName": "/" + old})
	return nil
}

// publish publishes an event about a container with the attributes that Docker gives it.
func (e *Engine) publish(action string, c *container, more map[string]string) {
	info, _ := c.snapshot()
	attrs := maps.Clone(info.Labels)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["image"], attrs["name"] = info.Spec.Image, info.Name
	maps.Copy(attrs, more)
	e.Events.Publish(events.Event{Type: "container", Action: action, ID: info.ID, Attributes: attrs})
}

const recordFile = "container.json"

func save(info Info) error {
	// Not flushed to the disk: after a power loss no container runs, and Restore drops a truncated record.
	return atomicfile.WriteJSON(filepath.Join(info.Dir, recordFile), info, 0o600)
}

// Restore reads the records of earlier runs, attaches to the containers that still run and records the exit of those that do
// not. A container whose record cannot be read is removed. An error means that the directory of the records cannot be used.
func (e *Engine) Restore(ctx context.Context) error {
	if err := os.MkdirAll(e.Root, 0o710); err != nil {
		return fmt.Errorf("make containers directory: %w", err)
	}
	dirs, err := os.ReadDir(e.Root)
	if err != nil {
		return fmt.Errorf("read containers: %w", err)
	}
	ctx = runtime.WithNamespace(ctx)
	var wg sync.WaitGroup
	for _, d := range dirs {
		dir := filepath.Join(e.Root, d.Name())
		data, err := os.ReadFile(filepath.Join(dir, recordFile))
		info := Info{}
		if err == nil {
			err = json.Unmarshal(data, &info)
		}
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				e.Log.Error("container record cannot be read; the container is dropped", "dir", dir, "err", err)
			}
			_ = os.RemoveAll(dir)
			continue
		}
		info.Dir = dir
		info.ExecIDs = nil
		c := e.register(info)
		wg.Go(func() { e.restoreContainer(ctx, c) })
	}
	wg.Wait()
	return nil
}

// register adds a container to the engine by its record.
func (e *Engine) register(info Info) *container {
	opts, err := logs.ParseOptions(info.Spec.Log.Name, info.Spec.Log.Options)
	if err != nil {
		opts = logs.Options{Driver: "json-file", MaxFile: 1}
	}
	c := &container{info: info, changed: make(chan struct{}), stdio: newStdio()}
	c.log = logs.Open(filepath.Join(info.Dir, info.ID+"-json.log"), opts)
	c.info.LogPath = c.log.Path()
	for _, m := range info.Mounts {
		if m.Type == "volume" {
			_ = e.Volumes.AddReference(m.Name, info.ID)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byID[info.ID], e.names[info.Name] = c, info.ID
	return c
}

func running(s Status) bool { return s == Running || s == Paused }
