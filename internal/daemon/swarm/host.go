// Package swarm assembles a node's part in its cluster: the agent and, on a manager, the store with its replicated member, the controllers, the
// dispatcher and the server of the node protocol. It reads and writes nothing itself. etcd, the network, containers and the kernel come as
// functions, for which testcluster gives it others, so that both run the same assembly.
package swarm

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what a Host needs. Every field is required unless it says otherwise.
type Config struct {
	Log *slog.Logger

	// StartMember starts the node's member of the replicated store. It returns when the member takes part in the cluster, or with an error when
	// ctx ends before.
	StartMember func(ctx context.Context, cfg membership.ManagerConfig) (Member, error)
	// Listen opens the address ("IP:port") at which the node protocol is served.
	Listen func(addr string) (net.Listener, error)
	// Follow, optional, is run as long as the node is a manager, until ctx ends. An error of it stops the manager.
	Follow func(ctx context.Context, s *store.Store) error

	// Runtime returns what runs the containers of the node's tasks. Node is empty when containers are only to be found and removed.
	Runtime func(node shoal.NodeID) agent.Runtime
	// Describe describes the node, except for its TLS, which Host fills in.
	Describe func() shoal.NodeDescription
	// ProbePort is the UDP port of liveness probes.
	ProbePort uint16
	// CallNode, optional, calls a node that has no session, at its probe port.
	CallNode func(netip.AddrPort) error
	// ApplyTable is that of agent.Config.
	ApplyTable func(context.Context, *shoal.TableDelta) ([]shoal.NetworkID, error)
	// DialAPI is that of agent.Config.
	DialAPI func(context.Context) (net.Conn, error)
	// ClearNetworks removes the cluster's networks from the node.
	ClearNetworks func(context.Context) error
}

// Host starts and stops the parts of a node that belong to a cluster. It implements membership.Host.
type Host struct {
	cfg     Config
	manager atomic.Pointer[Manager] // the one that was started last; nil before
}

// New makes a Host. It starts nothing.
func New(cfg Config) *Host { return &Host{cfg: cfg} }

// runningAgent is an agent that can be stopped.
type runningAgent struct {
	*agent.Agent
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Stop implements membership.Agent. It ends the session and waits for that; the containers of tasks go on.
func (a *runningAgent) Stop() {
	a.cancel()
	a.done.Wait()
}

// StartAgent implements membership.Host.
func (h *Host) StartAgent(cfg membership.AgentConfig) (membership.Agent, error) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &runningAgent{cancel: cancel, Agent: agent.New(agent.Config{
		Log: h.cfg.Log, Dial: cfg.Dial, Managers: cfg.State.Managers, Welcomed: cfg.Welcomed,
		Describe: func() shoal.NodeDescription { return h.describe(cfg.Identity) },
		DataAddr: dataAddr(cfg.State), ProbePort: h.cfg.ProbePort, ApplyTable: h.cfg.ApplyTable, DialAPI: h.cfg.DialAPI,
		Runtime: h.cfg.Runtime(cfg.Identity.NodeID()), SessionEnded: func(addr string) {
			go fault.Do(h.cfg.Log, "candidacy", func() { h.leaderMayBeGone(ctx, addr) })
		},
	})}
	a.done.Go(func() {
		err := fault.Contain(h.cfg.Log, "agent", func() error { return a.Run(ctx) })
		if err != nil && !errors.Is(err, context.Canceled) {
			h.cfg.Log.Error("agent has stopped: the node gets no more tasks from the cluster until the daemon is restarted", "err", err)
		}
	})
	return a, nil
}

// describe describes the node, with the TLS information of its identity.
func (h *Host) describe(identity *ca.Identity) shoal.NodeDescription {
	description := h.cfg.Describe()
	description.TLS = identity.Info()
	return description
}

// dataAddr is where the node wants VXLAN packets: the address of --data-path-addr, or else the one that it advertises.
func dataAddr(state membership.State) netip.Addr {
	if state.DataPathAddr.IsValid() {
		return state.DataPathAddr
	}
	return state.AdvertiseAddr
}

// Forget implements membership.Host. It removes the containers of tasks and the cluster's networks from the node.
func (h *Host) Forget(ctx context.Context) error {
	runtime := h.cfg.Runtime("")
	found, err := runtime.Tasks(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(found)+1)
	var removing sync.WaitGroup
	for i, f := range found {
		removing.Go(func() {
			errs[i] = fault.Contain(h.cfg.Log, "removal of a task's container", func() error { return runtime.Remove(ctx, f.ContainerID) })
		})
	}
	removing.Wait()
	errs[len(found)] = h.cfg.ClearNetworks(ctx)
	return errors.Join(errs...)
}
