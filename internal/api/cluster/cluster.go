// Package cluster serves the cluster's part of the Docker Engine API: the swarm itself, nodes, services, tasks, secrets,
// configs, logs of services, and requests for containers that run on another node. It reads the store and writes what users
// ask for (Service.Spec with SpecVersion and PreviousSpec, Node.Spec, Cluster.Spec, networks, secrets, configs); it never
// writes status. Package membership does what joining and leaving a cluster takes.
package cluster

import (
	"context"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// StateSource is where the cluster's state is read and written.
type StateSource interface {
	// Store returns the state, or the reason, in Docker's words, why this node has none: it is in no swarm, or it is a worker.
	Store() (*store.Store, error)
}

// LogSource calls each for every log line of tasks, on whichever nodes they run, until ctx ends, each returns an error, or there are no more
// lines.
type LogSource func(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error

// Config is what the cluster's resources need; every field is required.
type Config struct {
	Members   *membership.Membership
	Logs      LogSource
	Forwarder *Forwarder
	// CheckPorts refuses published ports that a service other than self has.
	CheckPorts func(v store.View, self shoal.ServiceID, spec *shoal.EndpointSpec) error
	// Outdated tells whether an update of its service replaces a task.
	Outdated func(*shoal.Service, *shoal.Task) bool
	// Diagnose looks at this node's networking.
	Diagnose func(context.Context) shoal.Diagnosis
}

// Resources returns the cluster's resources, other than networks, which the engine serves with those of the node.
func Resources(c Config) []server.Resource {
	return []server.Resource{
		NewSwarm(c.Members),
		&services{c.Members, c.CheckPorts},
		&tasks{c.Members, c.Outdated},
		&nodes{c.Members},
		newSecrets(c.Members),
		newConfigs(c.Members),
		&taskLogs{c.Members, c.Logs},
		&backups{c.Members},
		&doctor{diagnose: c.Diagnose, state: c.Members, forwarder: c.Forwarder},
	}
}
