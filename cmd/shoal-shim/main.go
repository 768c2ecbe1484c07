// Command shoal-shim is the shim of one container: a process that serves containerd's task API for it and is the parent of its processes,
// so that the container runs on while the daemon is restarted. It is not part of the shoal binary because each container needs a process
// of it: the whole binary takes twice the memory and five times as long to start.
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

// staticInfo answers `shoal-shim -info` without running runc, which the original does to list runc's features. runc need not be on PATH; and
// after a failure containerd asks again for every container it makes.
type staticInfo struct{ shim.Shim }

// Info implements shim.Shim.
func (t staticInfo) Info(context.Context, io.Reader) (*types.RuntimeInfo, error) {
	return &types.RuntimeInfo{Name: t.Name()}, nil
}

// newTaskService makes the task service of a shim that containerd has started.
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
