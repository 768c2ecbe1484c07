package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/api"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// swarmHost runs the parts of the node that belong to a cluster.
type swarmHost struct{ d *Daemon }

// StartManager implements membership.Host.
func (h *swarmHost) StartManager(ctx context.Context, cfg membership.ManagerConfig) (membership.Manager, error) {
	m, err := startManager(ctx, h.d.log, h.d.events, cfg)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// runningAgent is an agent and the means to stop it.
type runningAgent struct {
	*agent.Agent
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Stop implements membership.Agent: the session ends, the tasks go on.
func (a *runningAgent) Stop() {
	a.cancel()
	a.done.Wait()
}

// StartAgent implements membership.Host.
func (h *swarmHost) StartAgent(cfg membership.AgentConfig) (membership.Agent, error) {
	d := h.d
	facts := describe(d.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	a := &runningAgent{cancel: cancel, Agent: agent.New(agent.Config{
		Log: d.log, Dial: cfg.Dial, Managers: cfg.State.Managers, Welcomed: cfg.Welcomed,
		Describe: func() shoal.NodeDescription {
			description := describe(d.cfg)
			description.TLS = cfg.Identity.Info()
			description.TunnelKey = d.networks.TunnelKey()
			routes, err := d.networks.HostRoutes()
			if err != nil {
				d.log.Warn("list the host's routes", "err", err)
			}
			description.Routes = routes
			if description.Addrs6, err = d.networks.HostAddrs6(); err != nil {
				d.log.Warn("list the host's addresses", "err", err)
			}
			return description
		},
		DataAddr: dataAddr(cfg.State), ProbePort: d.cfg.ProbePort, ApplyTable: d.networks.Update, DialAPI: d.inner.Dial,
		Runtime: &agent.Engine{
			Containers: d.containers, Images: d.images,
			Node: agent.NodeFacts{ID: cfg.Identity.NodeID(), Hostname: facts.Hostname, Platform: facts.Platform},
		},
	})}
	a.done.Go(func() {
		if err := a.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			d.log.Error("agent has stopped", "err", err)
		}
	})
	return a, nil
}

// dataAddr is where the node's tunnels end: what the user said, else the address that it advertises.
func dataAddr(state membership.State) string {
	if state.DataPathAddr != "" {
		return state.DataPathAddr
	}
	return state.AdvertiseAddr
}

// Forget implements membership.Host.
func (h *swarmHost) Forget(ctx context.Context) error {
	runtime := &agent.Engine{Containers: h.d.containers}
	found, err := runtime.Tasks(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(found)+1)
	var removing sync.WaitGroup
	for i, f := range found {
		removing.Go(func() { errs[i] = runtime.Remove(ctx, f.ContainerID) })
	}
	removing.Wait()
	errs[len(found)] = h.d.networks.Apply(ctx, shoal.Table{})
	return errors.Join(errs...)
}

// attacher asks a manager for addresses of plain containers on cluster networks.
type attacher struct{ d *Daemon }

// Attach implements network.Attacher.
func (a attacher) Attach(ctx context.Context, network, containerID string, addr netip.Addr, aliases []string) (shoal.TaskNetwork, shoal.ID, error) {
	client, err := a.d.members.Client(ctx)
	if err != nil {
		return shoal.TaskNetwork{}, "", err
	}
	req := &rpc.AttachRequest{Network: network, ContainerID: containerID, Name: containerID, Aliases: aliases}
	if addr.IsValid() {
		req.Address = addr.String()
	}
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
func (a attacher) Detach(ctx context.Context, task shoal.ID) error {
	client, err := a.d.members.Client(ctx)
	if err != nil {
		return err
	}
	return client.Detach(ctx, &rpc.DetachRequest{TaskID: task})
}

// leading is the node's manager part, and whether it leads the cluster.
func (d *Daemon) leading() (*manager, bool, error) {
	m, err := d.members.Manager()
	if err != nil {
		return nil, false, err
	}
	running, ok := m.(*manager)
	if !ok {
		return nil, false, fmt.Errorf("find the manager: it is a %T", m)
	}
	_, leads, _ := running.member.Leader()
	return running, leads, nil
}

// taskLogs finds the logs of tasks on whatever node they are.
func (d *Daemon) taskLogs(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	m, leads, err := d.leading()
	if err != nil {
		return err
	}
	if leads {
		return m.dispatcher.Logs(ctx, query, each)
	}
	leader, err := d.members.Client(ctx)
	if err != nil {
		return err
	}
	return leader.ReadLogs(ctx, query, each)
}

// dialNode connects to the API of a node, through the leader.
func (d *Daemon) dialNode(ctx context.Context, node shoal.ID) (api.Tunnel, error) {
	m, leads, err := d.leading()
	if err != nil {
		return nil, err
	}
	if leads {
		return m.dispatcher.Reach(ctx, node)
	}
	leader, err := d.members.Client(ctx)
	if err != nil {
		return nil, err
	}
	return leader.Reach(ctx, node)
}
