package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/pkg/sys/reaper"
	runc "github.com/containerd/go-runc"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// listenerFD is the file descriptor of the listening socket that the daemon passes.
const listenerFD = 3

// idleTimeout is how long a shim waits for its container to be created, which includes the set-up of the network. If the daemon is
// killed meanwhile, nobody uses the shim, and it ends by itself.
const idleTimeout = 10 * time.Minute

// firstUse stops the idle timer when the container is created.
type firstUse struct {
	taskapi.TTRPCTaskService
	timer *time.Timer
}

func (u *firstUse) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	u.timer.Stop()
	return u.TTRPCTaskService.Create(ctx, r)
}

// serve serves one container's task until it is told to shut down.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	namespace := flags.String("namespace", "", "containerd's namespace")
	socket := flags.String("socket", "", "path of the inherited socket, removed at the end")
	flags.String("id", "", "the container, shown in lists of processes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	go tuneGC()
	// Processes of the container whose parents are gone become the shim's children, which it reaps.
	if err := reaper.SetSubreaper(1); err != nil {
		return fmt.Errorf("become the reaper of the container: %w", err)
	}
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGPIPE, unix.SIGCHLD)

	ctx, stop := shutdown.WithShutdown(namespaces.WithNamespace(context.Background(), *namespace))
	defer func() { _ = os.Remove(*socket) }()
	service, err := task.NewTaskService(ctx, noopPublisher{}, stop)
	if err != nil {
		return fmt.Errorf("make task service: %w", err)
	}
	runc.Monitor = monitor{reaper.Default}
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	idle := time.AfterFunc(idleTimeout, stop.Shutdown)
	taskapi.RegisterTTRPCTaskService(server, &firstUse{service, idle})
	listener, err := net.FileListener(os.NewFile(listenerFD, "socket"))
	if err != nil {
		return fmt.Errorf("take over socket: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	for {
		select {
		case <-stop.Done():
			if err := stop.Err(); !errors.Is(err, shutdown.ErrShutdown) {
				return err
			}
			return nil
		case err := <-served:
			if !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("serve tasks: %w", err)
			}
		case s := <-signals:
			switch s {
			case unix.SIGCHLD:
				_ = reaper.Reap() // fails only when there is no child left
			case unix.SIGTERM, unix.SIGINT:
				go stop.Shutdown()
			}
		}
	}
}

// tuneGC turns garbage collection off while the container starts, and then gives the memory back to the kernel: a shim is idle
// nearly all the time, and there is one for each container.
func tuneGC() {
	const start, spare = 15 * time.Second, 40 // percent
	debug.SetGCPercent(-1)
	time.Sleep(start)
	debug.SetGCPercent(spare)
	debug.FreeOSMemory()
}

// noopPublisher publishes no events. The daemon needs none: it waits for the container's exit, and causes all other events itself.
type noopPublisher struct{}

func (noopPublisher) Publish(context.Context, string, events.Event) error { return nil }

func (noopPublisher) Close() error { return nil }
