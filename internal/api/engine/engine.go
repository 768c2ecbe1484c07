// Package engine serves what one Docker Engine has: containers, execs, images, volumes, networks, events, and the engine itself.
// It turns requests into calls of the packages that own these, and their results into Docker's JSON. It keeps no state of its
// own. Networks of the cluster are served here beside those of the node, as Docker has one resource for both.
//
// A file is named after its resource. Beside the handlers are the conversions, named toAPI… and fromAPI…, and the validation of
// requests, named validate…. A field that would have no effect is to be refused, not dropped.
package engine

import (
	"context"
	"log/slog"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/volume"
)

// Config is what the engine's resources need; every field is required.
type Config struct {
	Log             *slog.Logger
	Machine         Machine
	Containers      *container.Engine
	Images          *image.Store
	Builder         *build.Builder
	Registries      *registry.Client
	Volumes         *volume.Store
	Networks        LocalNetworks
	ClusterNetworks ClusterNetworks
	Swarm           Swarm
	Events          *events.Bus
	// WithdrawTask is called before a user stops a container. If the container belongs to a task, it makes all load balancers stop sending new
	// connections to that task, and waits for that.
	WithdrawTask func(ctx context.Context, containerID string)
	// Warnings is what `docker info` warns of, a sentence each.
	Warnings func() []string
	Settings func() Settings
}

// Resources returns the engine's resources.
func Resources(c Config) []server.Resource {
	networks := &networks{local: c.Networks, cluster: c.ClusterNetworks, containers: c.Containers, events: c.Events}
	containers := &containers{log: c.Log, engine: c.Containers, images: c.Images, withdrawTask: c.WithdrawTask, findNetwork: networks.find}
	images := &images{store: c.Images, usedBy: c.Containers.Using, events: c.Events}
	volumes := &volumes{c.Volumes, c.Events}
	return []server.Resource{
		containers, images, volumes, networks,
		newSystemInfo(c),
		&eventStream{c.Events},
		&diskUsage{containers: c.Containers, images: images, volumes: c.Volumes, cache: c.Builder.Usage},
		&builds{c.Builder, c.Events, func() bool { return c.Settings().Experimental }},
		plugins{},
		&debugPages{c.Settings},
		&registries{c.Registries},
	}
}
