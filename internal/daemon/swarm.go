package daemon

import (
	"context"
	"net"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/api"
	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// newSwarmHost makes what runs the node's part in a cluster, on a real etcd and TCP, and with the node's containers and networks.
func (d *Daemon) newSwarmHost() *swarm.Host {
	return swarm.New(swarm.Config{
		Log: d.log,
		StartMember: func(ctx context.Context, cfg membership.ManagerConfig) (swarm.Member, error) {
			return startMember(ctx, d.log, cfg)
		},
		Listen: func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Follow: func(ctx context.Context, s *store.Store) error { return publishChanges(ctx, s, d.events) },
		Runtime: func(node shoal.NodeID) agent.Runtime {
			cfg := d.settings()
			facts := describe(&cfg)
			return &agent.Engine{
				Containers: d.containers, Images: d.images,
				Node: agent.NodeFacts{ID: node, Hostname: facts.Hostname, Platform: facts.Platform},
			}
		},
		Describe: d.describe, ProbePort: d.cfg.ProbePort, CallNode: d.networks.Call, ApplyTable: d.networks.Update, DialAPI: d.tunnels.Dial,
		ClearNetworks: func(ctx context.Context) error { return d.networks.Apply(ctx, shoal.Table{}) },
	})
}

// describe describes the node to the managers: its machine and its networks.
func (d *Daemon) describe() shoal.NodeDescription {
	cfg := d.settings()
	description := describe(&cfg)
	description.TunnelKey = d.networks.TunnelKey()
	routes, err := d.networks.HostRoutes()
	if err != nil {
		d.log.Warn("the host's routes are not known: subnets of new networks may overlap them", "err", err)
	}
	description.Routes = routes
	if description.Addrs6, err = d.networks.HostAddrs6(); err != nil {
		d.log.Warn("the host's IPv6 addresses are not known", "err", err)
	}
	return description
}

// attacher gets addresses on cluster networks, from a manager, for containers that are no tasks.
type attacher struct{ d *Daemon }

// Attach implements network.Attacher.
func (a attacher) Attach(ctx context.Context, network, containerID string, addr netip.Addr, aliases []string) (shoal.TaskNetwork, shoal.TaskID, error) {
	client, err := a.d.members.Client(ctx)
	if err != nil {
		return shoal.TaskNetwork{}, "", err
	}
	req := &rpc.AttachRequest{Network: network, ContainerID: containerID, Name: containerID, Address: addr, Aliases: aliases}
	if info, err := a.d.containers.Inspect(containerID); err == nil {
		req.Name = info.Name
	}
	reply, err := client.Attach(ctx, req)
	if err != nil {
		return shoal.TaskNetwork{}, "", err
	}
	return reply.Network, reply.TaskID, nil
}

// Detach implements network.Attacher.
func (a attacher) Detach(ctx context.Context, task shoal.TaskID) error {
	client, err := a.d.members.Client(ctx)
	if err != nil {
		return err
	}
	return client.Detach(ctx, &rpc.DetachRequest{TaskID: task})
}

// taskLogs reads the logs of tasks on any node: see swarm.Logs.
func (d *Daemon) taskLogs(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	return swarm.Logs(ctx, d.members, query, each)
}

// dialNode connects to the API of another node through the leader.
func (d *Daemon) dialNode(ctx context.Context, node shoal.NodeID) (api.Tunnel, error) {
	return swarm.Reach(ctx, d.members, node)
}
