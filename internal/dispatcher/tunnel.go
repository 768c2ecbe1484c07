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

// pendingTunnel is a tunnel that an agent was asked to open and has not opened yet.
type pendingTunnel struct {
	node shoal.NodeID
	open chan *rpc.Tunnel // capacity 1
}

// Reach opens a connection to a node's API. It asks the node's agent over the session to open a stream to this manager, so the
// node need not be reachable from here. The error is Unavailable if the node has no session or does not answer within reachLimit.
func (d *Dispatcher) Reach(ctx context.Context, node shoal.NodeID) (*rpc.Tunnel, error) {
	id, pending := shoal.NewID[string](), &pendingTunnel{node, make(chan *rpc.Tunnel, 1)}
	d.mu.Lock()
	s := d.sessions[node]
	if s == nil {
		d.mu.Unlock()
		return nil, shoal.Unavailable("node %s is not available", node)
	}
	d.tunnels[id] = pending
	s.controlMessages = append(s.controlMessages, rpc.ManagerMessage{Open: id})
	wake(s.wake)
	d.mu.Unlock()
	limit := time.NewTimer(reachLimit)
	defer limit.Stop()
	select {
	case t := <-pending.open:
		return t, nil
	case <-ctx.Done():
	case <-limit.C:
	}
	d.mu.Lock()
	delete(d.tunnels, id)
	d.mu.Unlock()
	select {
	case t := <-pending.open: // opened just before it was removed from the map
		return t, nil
	default:
		return nil, shoal.Unavailable("node %s does not answer", node)
	}
}

// Tunnel is called by an agent that was asked to open a tunnel. It returns when the tunnel has been closed.
func (d *Dispatcher) Tunnel(stream rpc.FrameServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d.mu.Lock()
	pending := d.tunnels[first.Tunnel]
	delete(d.tunnels, first.Tunnel)
	d.mu.Unlock()
	if pending == nil || pending.node != rpc.CallerOf(stream.Context()).NodeID {
		return shoal.NotFound("nobody waits for this tunnel")
	}
	done := make(chan struct{})
	pending.open <- rpc.NewTunnel(stream, sync.OnceFunc(func() { close(done) }))
	select {
	case <-done:
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// ReachFor connects another manager to a node's API, because only the leader has the agents' sessions.
func (d *Dispatcher) ReachFor(stream rpc.FrameServer) error {
	if caller := rpc.CallerOf(stream.Context()); caller.Role != shoal.RoleManager {
		return shoal.PermissionDenied("node %s is not a manager", caller.NodeID)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	nodeTunnel, err := d.Reach(stream.Context(), first.Node)
	if err != nil {
		return err
	}
	if err := stream.Send(&rpc.Frame{}); err != nil {
		_ = nodeTunnel.Close()
		return err
	}
	return nodeTunnel.Relay(rpc.NewTunnel(stream, func() {}))
}
