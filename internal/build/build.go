// Package build builds images from Dockerfiles with BuildKit, which it runs inside the daemon from the first build on. It reads contexts, registries and the
// node's images; it writes BuildKit's databases, containerd's content and snapshots, and records of images through package image (docs/build.md).
package build

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/moby/buildkit/session"
	"github.com/sirupsen/logrus"

	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Network gives the processes of a build's steps their sandboxes, as it does for containers.
type Network interface {
	// Up makes a sandbox. It is idempotent.
	Up(ctx context.Context, spec shoal.SandboxSpec) (shoal.Sandbox, error)
	// Down removes a sandbox. It is no error if there is none.
	Down(ctx context.Context, id string) error
}

// Config is what a Builder needs. All fields before GC are required.
type Config struct {
	Log        *slog.Logger
	Root       string // the directory of the cache's databases, data-root/buildkit
	State      string // the directory of what does not outlive a reboot, exec-root/build
	Runtime    *runtime.Runtime
	Images     *image.Store
	Registries *registry.Client
	Network    Network
	// CgroupParent is the cgroup below which steps get theirs.
	CgroupParent string
	// GC limits the cache; the zero GC is Docker's defaults.
	GC GC
	// Room is an error if there is no room for so many bytes more; if it is nil, there always is room.
	Room func(bytes int64) error
	// SetAside takes the cache's databases, as a folder, if one of them is damaged; nil makes that an error of every build.
	SetAside func(path string, cause error) error
	// HostGateways is what "host-gateway" stands for in extra hosts; nil for nothing.
	HostGateways func() []netip.Addr
}

// Builder builds images. Its methods are safe for concurrent use. Nothing runs before the first that needs BuildKit.
type Builder struct {
	Config
	sessions *session.Manager
	bodies   bodies
	logger   *logrus.Entry // to Log

	mu      sync.Mutex // guards what follows
	running *engine    // nil until the first use
	closed  bool
	jobs    map[string]context.CancelFunc // by the IDs that clients gave their builds
}

// New returns a Builder. It starts nothing.
func New(c Config) (*Builder, error) {
	sessions, err := session.NewManager()
	if err != nil {
		return nil, fmt.Errorf("make session manager: %w", err)
	}
	return &Builder{Config: c, sessions: sessions, logger: runtime.Logger(c.Log, logName), jobs: map[string]context.CancelFunc{}}, nil
}

// engine returns BuildKit, started.
func (b *Builder) engine(ctx context.Context) (*engine, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, net.ErrClosed
	}
	if b.running != nil {
		return b.running, nil
	}
	ctx = runtime.WithNamespace(context.WithoutCancel(ctx))
	e, err := b.tryStart(ctx)
	if err != nil && b.SetAside != nil {
		e, err = b.startEmpty(ctx, err)
	}
	if err != nil {
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	b.running = e
	return e, nil
}

// used tells whether there is a cache, of this daemon or of an earlier one.
func (b *Builder) used() bool {
	_, err := os.Stat(filepath.Join(b.Root, cacheFile))
	return err == nil
}

// Close stops BuildKit, if it runs, and with it what it builds.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.running == nil {
		return nil
	}
	err := b.running.close()
	runtime.LogStray(nil, "")
	b.removeCgroups()
	return err
}

// ServeSession serves a connection on which a client offers BuildKit its files, secrets and credentials, until it ends. The header says which services.
func (b *Builder) ServeSession(ctx context.Context, conn net.Conn, header http.Header) error {
	return b.sessions.HandleConn(ctx, conn, header)
}

// ServeGRPC hands a connection to BuildKit's gRPC server, which closes it when its client goes.
func (b *Builder) ServeGRPC(ctx context.Context, conn net.Conn) error {
	e, err := b.engine(ctx)
	if err != nil {
		return err
	}
	return e.connections.add(ctx, conn)
}

// Cancel ends the build to which its client gave an ID. It is no error if there is none.
func (b *Builder) Cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancel := b.jobs[id]; cancel != nil {
		cancel()
	}
}
