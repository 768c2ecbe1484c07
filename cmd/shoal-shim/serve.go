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

// createTimeout is how long a shim waits for its container to be created; the daemon sets up the container's network meanwhile. If the
// daemon is killed before, nobody will ever use the shim, and it ends by itself.
const createTimeout = 10 * time.Minute

// boundedService is a task service that ends the shim unless a container is created before the timer fires.
type boundedService struct {
	taskapi.TTRPCTaskService
	timer *time.Timer
}

// Create stops the timer and creates the container.
func (s *boundedService) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	s.timer.Stop()
	return s.TTRPCTaskService.Create(ctx, r)
}

// serve serves one container's task until containerd or a signal ends it.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	namespace := flags.String("namespace", "", "containerd's namespace")
	socket := flags.String("socket", "", "path of the inherited socket, removed at the end")
	flags.String("id", "", "the container's ID, so that lists of processes show it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	go tuneGC()
	// Processes of the container whose parents have ended become children of the shim, which reaps them.
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
	runc.Monitor = releasingMonitor{reaper.Default}
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	taskapi.RegisterTTRPCTaskService(server, &boundedService{service, time.AfterFunc(createTimeout, stop.Shutdown)})
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
	const (
		off       = -1
		startTime = 15 * time.Second
		percent   = 40 // garbage that may pile up, as a share of the memory in use; Go's default is 100
	)
	debug.SetGCPercent(off)
	time.Sleep(startTime)
	debug.SetGCPercent(percent)
	debug.FreeOSMemory()
}

// noopPublisher drops containerd's events. The daemon needs none: it waits for the container's exit, and causes everything else itself.
type noopPublisher struct{}

// Publish implements shim.Publisher.
func (noopPublisher) Publish(context.Context, string, events.Event) error { return nil }

// Close implements shim.Publisher.
func (noopPublisher) Close() error { return nil }
