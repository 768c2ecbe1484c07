// Command shoal-shim is containerd's task service for runc: it keeps one container running and supervised while the daemon restarts.
// It is not part of the shoal binary because every container needs a process of it: the whole binary takes twice the memory and five
// times as long to start.
//
// Run as /sbin/docker-init it is instead the first process of a container with an init (`docker run --init`).
//
// The daemon runs `shoal-shim serve`, which serves on a socket that it inherits. Any other arguments are containerd's own shim
// protocol, with which containerd cleans up after a shim that died.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

func main() {
	if os.Args[0] == initName {
		os.Exit(runInit(os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "shoal-shim:", err)
			os.Exit(1)
		}
		return
	}
	registry.Reset() // drop the plugins that imported packages have registered
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newTaskService,
	})
	shim.RunShim(context.Background(), staticInfo{manager.NewShimManager("io.containerd.runc.v2")})
}

// staticInfo answers -info without asking runc for its features: runc need not be on PATH, and containerd repeats a question
// that failed for every container it makes.
type staticInfo struct{ shim.Shim }

func (t staticInfo) Info(context.Context, io.Reader) (*types.RuntimeInfo, error) {
	return &types.RuntimeInfo{Name: t.Name()}, nil
}

func newTaskService(ic *plugin.InitContext) (any, error) {
	publisher, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	stop, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	return task.NewTaskService(ic.Context, publisher.(shim.Publisher), stop.(shutdown.Service))
}
