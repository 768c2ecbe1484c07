// Package runtime runs containerd inside the daemon: its plugins without its daemon, spoken to in memory. It reads the
// programs embedded in the binary and the exit records that shims left while no daemon ran; it writes containerd's root and
// state directories and the unpacked programs.
package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/errdefs"
)

// Namespace is containerd's namespace of everything that shoal makes.
const Namespace = "shoal"

// Snapshotter is the name of the containerd snapshotter in use.
const Snapshotter = "overlayfs"

// Config says where the runtime stores its files. All fields but Shim and OCI are required.
type Config struct {
	Log *slog.Logger
	// Root keeps what outlives a reboot: images, snapshots.
	Root string
	// State keeps what does not: bundles, FIFOs, sockets. Nodes on one machine must not share it.
	State string
	// Shim and OCI override the programs; by default the embedded ones are used, then those on PATH.
	Shim string
	OCI  string
}

// Runtime is a running containerd.
type Runtime struct {
	Client   *client.Client
	Transfer transfer.Transferrer
	// Shim and OCI are the programs in use.
	Shim string
	OCI  string
	// FIFODir holds the FIFOs between the containers' standard streams and the daemon.
	FIFODir string

	exits     map[string]Exit
	state     string
	socketDir string
	lock      *os.File
	server    *server.Server
	stop      context.CancelFunc
	closeOnce sync.Once
}

// Start starts containerd. It fails with an unavailable error when another daemon uses the same root. ctx bounds the start only; Close
// stops containerd.
func Start(ctx context.Context, c Config) (*Runtime, error) {
	if err := os.MkdirAll(c.Root, 0o711); err != nil {
		return nil, fmt.Errorf("make runtime root: %w", err)
	}
	lock, err := lockFile(filepath.Join(c.Root, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", c.Root, err)
	}
	rt, err := start(ctx, c)
	if err != nil {
		lock.Close()
		return nil, err
	}
	rt.lock = lock
	return rt, nil
}

func start(ctx context.Context, c Config) (*Runtime, error) {
	programs, err := findPrograms(c)
	if err != nil {
		return nil, err
	}
	rt := &Runtime{
		Shim: programs.shim, OCI: programs.oci, state: c.State,
		FIFODir:   filepath.Join(c.State, "fifo"),
		socketDir: socketDir(c.State),
	}
	// Exit records must be read before containerd starts, because it deletes the bundles of dead containers.
	if rt.exits, err = readExits(c.State, rt.shimServes); err != nil {
		return nil, fmt.Errorf("read exit records: %w", err)
	}
	for _, dir := range []string{rt.FIFODir, rt.socketDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make runtime directory: %w", err)
		}
	}
	config := serverConfig(c, rt.socketDir)
	if err := server.CreateTopLevelDirectories(config); err != nil {
		return nil, fmt.Errorf("make containerd directories: %w", err)
	}
	registerClient()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	captured := &capture{}
	srv, err := server.New(context.WithValue(withLogger(running, c.Log), captureKey{}, captured), config)
	if err != nil {
		stop()
		return nil, fmt.Errorf("load containerd: %w", err)
	}
	if err := srv.Start(running); err != nil {
		stop()
		srv.Stop()
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	rt.Client, rt.Transfer, rt.server, rt.stop = captured.client, captured.transfer, srv, stop
	_, err = rt.Client.SandboxStore().Create(WithNamespace(ctx), sandbox.Sandbox{ID: Sandbox})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		stop()
		srv.Stop()
		return nil, fmt.Errorf("make sandbox: %w", err)
	}
	return rt, nil
}

// Close stops containerd and always returns nil. Containers and their shims keep running; their output is not read until the next
// Start. Calling it again does nothing.
func (rt *Runtime) Close() error {
	rt.closeOnce.Do(func() {
		rt.stop()
		rt.server.Stop()
		rt.lock.Close()
		_ = os.Remove(filepath.Join(rt.socketDir, serverSocket))
		_ = os.Remove(rt.socketDir) // only succeeds when no shim is left
	})
	return nil
}

// Options returns the runc options that every task is started with.
func (rt *Runtime) Options() *options.Options {
	return &options.Options{BinaryName: rt.OCI, Root: filepath.Join(rt.state, "oci")}
}

// Rootfs returns the host path at which the file system of a running container is mounted.
func (rt *Runtime) Rootfs(id string) string {
	return filepath.Join(rt.state, tasksDir, Namespace, id, "rootfs")
}

// Exit is how a container ended while no daemon ran.
type Exit struct {
	Status uint32
	At     time.Time
}

// RecordedExit returns how a container ended, if it ended while no daemon ran; else ok is false.
func (rt *Runtime) RecordedExit(id string) (exit Exit, ok bool) {
	exit, ok = rt.exits[id]
	return exit, ok
}

func serverConfig(c Config, socketDir string) *srvconfig.Config {
	return &srvconfig.Config{
		Version: 4,
		Root:    c.Root,
		State:   c.State,
		DisabledPlugins: []string{
			"io.containerd.server.v1.grpc", "io.containerd.server.v1.grpc-tcp",
			"io.containerd.server.v1.debug", "io.containerd.server.v1.metrics",
		},
		Plugins: map[string]any{
			"io.containerd.server.v1.ttrpc": map[string]any{"address": filepath.Join(socketDir, serverSocket)},
			"io.containerd.shim.v1.manager": map[string]any{"socket_dir": socketDir},
			"io.containerd.gc.v1.scheduler": map[string]any{"startup_delay": "10s"},
		},
	}
}

// serverSocket is the name of the socket at which shims report events to containerd.
const serverSocket = "t"

// maxSocketDir is what containerd allows; socket names are long and a socket's address is at most 108 bytes.
const maxSocketDir = 38

// socketDir is in the state directory when its path is short enough, else a directory of its own under /run.
func socketDir(state string) string {
	dir := filepath.Join(state, "s")
	if len(dir) <= maxSocketDir {
		return dir
	}
	sum := sha256.Sum256([]byte(state))
	return filepath.Join("/run", "shoal-s-"+hex.EncodeToString(sum[:6]))
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("in use by another daemon: %w", errdefs.ErrUnavailable)
	}
	return f, nil
}
