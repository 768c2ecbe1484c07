// Package api serves the Docker Engine API: it turns requests into calls of the rooms and specs in the store, and what the
// rooms know into Docker's JSON. It is the only room that knows moby's types. It writes specs; it never writes status.
//
// Package server has what all resources need: routing, API versions, errors, streams, filters. Package engine has the resources
// of one engine, package cluster those of the cluster, and package convert the conversions that both need. This package puts
// them together.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/api/cluster"
	"github.com/shoal-dev/shoal/internal/api/engine"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/volume"
)

// Machine is what does not change about a node while its daemon runs.
type Machine = engine.Machine

// Settings is what the daemon's configuration says, as far as clients see it.
type Settings = engine.Settings

// AddressPool is a range that subnets of a size are cut from.
type AddressPool = engine.AddressPool

// Runtime is an OCI runtime that containers can ask for.
type Runtime = engine.Runtime

// Tunnel is a connection to the API of another node.
type Tunnel = cluster.Tunnel

// Config is the rooms that the API speaks for, and what it asks of rooms that it may not import; every field is required.
type Config struct {
	Log        *slog.Logger
	Containers *container.Engine
	Images     *image.Store
	Builder    *build.Builder
	Registries *registry.Client
	Volumes    *volume.Store
	Networks   *network.Networks
	Members    *membership.Membership
	Events     *events.Bus
	Machine    Machine
	// Logs finds the logs of tasks wherever they run.
	Logs cluster.LogSource
	// Dial connects to the API of another node of the cluster.
	Dial func(ctx context.Context, node shoal.NodeID) (Tunnel, error)
	// CheckPorts refuses published ports that a service other than self has.
	CheckPorts func(v store.View, self shoal.ServiceID, spec *shoal.EndpointSpec) error
	// Exhausted is how the addresses of a network are used if no task can get one any more, and nil otherwise.
	Exhausted func(v store.View, n *shoal.Network) []shoal.SubnetUsage
	// Outdated tells whether an update of its service replaces a task.
	Outdated func(*shoal.Service, *shoal.Task) bool
	// Problems describes, a sentence each, what on this node works only in part. `docker info` and `shoal doctor` show it.
	Problems func() []string
	// Settings can change while the daemon runs.
	Settings func() Settings
}

// New returns the API's handler. It starts nothing: what goes on for long ends with its request.
func New(c Config) http.Handler {
	forwarder := cluster.NewForwarder(cluster.ForwarderConfig{
		Log: c.Log, State: c.Members, Dial: c.Dial,
		IsLocal: func(ref string) bool {
			_, err := c.Containers.Inspect(ref)
			return !errdefs.IsNotFound(err)
		},
	})
	resources := slices.Concat(
		engine.Resources(engine.Config{
			Log: c.Log, Machine: c.Machine, Containers: c.Containers, Images: c.Images, Builder: c.Builder, Registries: c.Registries, Volumes: c.Volumes, Networks: c.Networks,
			ClusterNetworks: cluster.NewNetworks(c.Members, c.Exhausted), Swarm: cluster.NewSwarm(c.Members), Events: c.Events,
			WithdrawTask: c.Members.Withdraw, Warnings: c.Problems, Settings: c.Settings,
		}),
		cluster.Resources(cluster.Config{
			Members: c.Members, Logs: c.Logs, Forwarder: forwarder, CheckPorts: c.CheckPorts, Outdated: c.Outdated,
			Diagnose: func(ctx context.Context) shoal.Diagnosis {
				d := c.Networks.Diagnose(ctx)
				d.Problems = append(d.Problems, c.Problems()...)
				return d
			},
		}),
	)
	return server.Recover(c.Log, forwarder.Handler(server.New(c.Log, resources...)))
}
