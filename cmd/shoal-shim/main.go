// Command shoal-shim keeps one container alive and watched while the daemon restarts: containerd's task service for runc and
// nothing else. It is apart from shoal because every container costs one: a program of everything takes twice the memory and
// five times the start-up.
//
// Called /sbin/docker-init it is the first process of a container that asked for one (`--init`), and nothing of the above.
//
// `shoal-shim serve` is how the daemon starts it, ready to serve on a socket that it inherits. Any other words are
// containerd's own shim protocol, which is still how a shim that died is cleaned up after.
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
	registry.Reset() // whatever an imported package registered is not wanted here
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
