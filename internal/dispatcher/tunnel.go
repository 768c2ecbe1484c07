package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// reachLimit bounds the wait for an agent to open a tunnel.
const reachLimit = 5 * time.Second

// awaited is a tunnel that an agent was asked for.
type awaited struct {
	node shoal.NodeID
	open chan *rpc.Tunnel // capacity 1
}

// Reach opens a connection to a node's API: the node's agent calls back, so that a node need not be reachable itself.
func (d *Dispatcher) Reach(ctx context.Context, node shoal.NodeID) (*rpc.Tunnel, error) {
	id, wanted := shoal.NewID[string](), &awaited{node, make(chan *rpc.Tunnel, 1)}
	d.mu.Lock()
	s := d.sessions[node]
	if s == nil {
		d.mu.Unlock()
		return nil, shoal.Unavailable("node %s is not available", node)
	}
	d.tunnels[id] = wanted
	s.asides = append(s.asides, rpc.ManagerMessage{Open: id})
	wake(s.wake)
	d.mu.Unlock()
	limit := time.NewTimer(reachLimit)
	defer limit.Stop()
	select {
	case t := <-wanted.open:
		return t, nil
	case <-ctx.Done():
	case <-limit.C:
	}
	d.mu.Lock()
	delete(d.tunnels, id)
	d.mu.Unlock()
	select {
	case t := <-wanted.open: // at the last moment
		return t, nil
	default:
		return nil, shoal.Unavailable("node %s does not answer", node)
	}
}

// Tunnel takes a connection that an agent was asked for; it lasts until the one who asked closes it.
func (d *Dispatcher) Tunnel(stream rpc.FrameServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d.mu.Lock()
	wanted := d.tunnels[first.Tunnel]
	delete(d.tunnels, first.Tunnel)
	d.mu.Unlock()
	if wanted == nil || wanted.node != rpc.CallerOf(stream.Context()).NodeID {
		return shoal.NotFound("nobody waits for this tunnel")
	}
	done := make(chan struct{})
	wanted.open <- rpc.NewTunnel(stream, sync.OnceFunc(func() { close(done) }))
	select {
	case <-done:
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// ReachFor reaches a node for another manager: only the leader has the agents' sessions.
func (d *Dispatcher) ReachFor(stream rpc.FrameServer) error {
	if caller := rpc.CallerOf(stream.Context()); caller.Role != shoal.RoleManager {
		return shoal.PermissionDenied("node %s is not a manager", caller.NodeID)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	far, err := d.Reach(stream.Context(), first.Node)
	if err != nil {
		return err
	}
	if err := stream.Send(&rpc.Frame{}); err != nil {
		_ = far.Close()
		return err
	}
	return far.Relay(rpc.NewTunnel(stream, func() {}))
}
