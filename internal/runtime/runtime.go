// Package runtime runs containerd inside the daemon: its plugins without its own daemon, called in memory. It reads the programs that are
// embedded in the binary and the exit records that shims left while no daemon ran; it writes containerd's root and state directories and
// the unpacked programs.
package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
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
	"github.com/containerd/errdefs"
)

// Namespace is the namespace in containerd of everything that shoal makes.
const Namespace = "shoal"

// Snapshotter is the name of containerd's snapshotter that keeps the images' layers and the containers' file systems.
const Snapshotter = "overlayfs"

// Config says where the runtime stores its files. Log, Root and State are required.
type Config struct {
	Log *slog.Logger
	// Root is the directory of what outlives a reboot: images, snapshots. Nodes on one machine must not share it, nor State.
	Root string
	// State is the directory of what does not outlive a reboot: bundles, FIFOs, sockets.
	State string
	// Shim and OCI are the programs to use instead of the embedded ones, or of those on PATH where there are none.
	Shim string
	OCI  string
	// SetAside takes what containerd keeps, a folder at a time, if its databases are damaged; nil makes that an error.
	SetAside func(path string, cause error) error
}

// Runtime is a running containerd. Its methods are safe for concurrent use.
type Runtime struct {
	Client  *client.Client // calls this containerd in memory
	Shim    string         // the path of the shim in use
	OCI     string         // the path of the OCI runtime in use
	FIFODir string         // where the FIFOs between the containers' standard streams and the daemon are made

	exits     map[string]Exit // see RecordedExit
	state     string          // Config.State
	socketDir string          // where the shims' sockets are
	lock      *os.File        // held while this daemon uses Config.Root
	server    *server.Server
	stop      context.CancelFunc // ends the context that server was started with
	closeOnce sync.Once
}

// Start starts containerd. When another daemon uses the same root, it fails with an unavailable error. ctx bounds the start only; Close
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
	if err != nil && c.SetAside != nil {
		if damage := damagedDatabases(c.Root); damage != nil {
			if err = setAsideContent(c, damage); err == nil {
				rt, err = start(ctx, c)
			}
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	rt.lock = lock
	return rt, nil
}

// start is Start with the root locked.
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
	// The exit records must be read before containerd starts, because it deletes the bundles of containers that have ended.
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
	if captured.client == nil { // a part that it stands on could not be loaded; containerd has logged why
		stop()
		srv.Stop()
		return nil, errors.New("start containerd: parts of it could not be loaded")
	}
	rt.Client, rt.server, rt.stop = captured.client, srv, stop
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
		_ = os.Remove(rt.socketDir) // fails while shims run, whose sockets are in it
	})
	return nil
}

// Options returns the options that a task is started with: by the OCI runtime of a name, which is a program, or by the node's own if program is empty. Each
// runtime has its state in a folder of its own.
func (rt *Runtime) Options(name, program string) *options.Options {
	if program == "" {
		return &options.Options{BinaryName: rt.OCI, Root: filepath.Join(rt.state, ownOCI)}
	}
	return &options.Options{BinaryName: program, Root: filepath.Join(rt.state, ownOCI+"-"+url.PathEscape(name))}
}

// ownOCI is the name of the folder where the node's own OCI runtime has its state. The shim knows it: of no other runtime does it do a part of the work itself.
const ownOCI = "oci"

// Exit is how a container ended while no daemon ran.
type Exit struct {
	Status uint32 // the exit code; 128 plus the number of the signal that ended it
	At     time.Time
}

// RecordedExit returns how a container ended, if it ended while no daemon ran; else ok is false.
func (rt *Runtime) RecordedExit(id string) (exit Exit, ok bool) {
	exit, ok = rt.exits[id]
	return exit, ok
}

// serverConfig is containerd's configuration.
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
			// A layer counts as unpacked once the database says so, which is flushed: its files must be on the disk before.
			"io.containerd.service.v1.diff-service": map[string]any{"sync_fs": true},
			"io.containerd.gc.v1.scheduler":         map[string]any{"startup_delay": "10s"},
		},
	}
}

// serverSocket is the name of the socket at which shims report events to containerd.
const serverSocket = "t"

// maxSocketDir is the longest path of a directory of sockets that containerd accepts, in bytes: a socket's address has at most 108 (unix(7)),
// and a socket's name has the 64 of the container's ID.
const maxSocketDir = 38

// socketDir is the directory of the shims' sockets: in the state directory if its path is short enough, else one of its own under /run.
func socketDir(state string) string {
	dir := filepath.Join(state, "s")
	if len(dir) <= maxSocketDir {
		return dir
	}
	sum := sha256.Sum256([]byte(state))
	return filepath.Join("/run", "shoal-s-"+hex.EncodeToString(sum[:6]))
}

// lockFile locks a file, which it makes if need be, until it is closed or the process ends. If another process has locked it, the error is
// of kind unavailable.
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
