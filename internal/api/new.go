package api

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/volume"
)

// Config is the rooms that the API speaks for; every field is required.
type Config struct {
	Log        *slog.Logger
	Containers *container.Engine
	Images     *image.Store
	Volumes    *volume.Store
	Networks   *network.Networks
	Members    *membership.Membership
	Events     *events.Bus
	Machine    Machine
	Logs       LogSource
	// Reach connects to the API of another node of the cluster.
	Reach func(ctx context.Context, node shoal.ID) (Tunnel, error)
	// CheckPorts and CheckSubnets refuse what the allocator could not give.
	CheckPorts   func(v store.View, self shoal.ID, spec *shoal.EndpointSpec) error
	CheckSubnets func(v store.View, self shoal.ID, asked []shoal.Subnet) error
	// Outdated tells whether an update of its service replaces a task.
	Outdated func(*shoal.Service, *shoal.Task) bool
}

// New makes the API's handler.
func New(c Config) http.Handler {
	local := usages{
		&containers{log: c.Log, engine: c.Containers, images: c.Images, volumes: c.Volumes, withdrawTask: c.Members.Withdraw},
		&imageAPI{log: c.Log, images: c.Images, using: c.Containers.Using},
		&volumeAPI{volumes: c.Volumes},
	}
	far := &remote{log: c.Log, engine: c.Containers, store: c.Members.Store, reach: c.Reach, execs: map[string]shoal.ID{}}
	far.next = newHandler(c.Log,
		&systems{machine: c.Machine, members: c.Members, bus: c.Events, counts: c.counts},
		&clusters{c.Members},
		&services{c.Members, c.CheckPorts},
		&tasks{c.Members, c.Outdated},
		&nodes{c.Members},
		newSecrets(c.Members),
		newConfigs(c.Members),
		&serviceLogs{c.Members, c.Logs},
		local.containers, local.images, local.volumes, &local,
		&networks{local: c.Networks, members: c.Members, containers: c.Containers},
		&doctor{networks: c.Networks, members: c.Members, remote: far},
	)
	return far
}

// counts is for /info.
func (c Config) counts(ctx context.Context) Counts {
	var n Counts
	for _, info := range c.Containers.List(nil) {
		n.Containers++
		switch info.State.Status {
		case container.Running, container.Restarting:
			n.Running++
		case container.Paused:
			n.Paused++
		case container.Created, container.Exited, container.Dead, container.Removing:
		}
	}
	if images, err := c.Images.List(ctx); err == nil {
		n.Images = len(images)
	}
	return n
}
