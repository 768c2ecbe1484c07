package agent

import (
	"context"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
)

// openTunnel gives a manager a connection to the node's own API.
func (a *Agent) openTunnel(ctx context.Context, client *rpc.Client, id string) {
	a.tasks.Go(func() {
		fault.Do(a.cfg.Log, "tunnel for a manager", func() { a.serveTunnel(ctx, client, id) })
	})
}

func (a *Agent) serveTunnel(ctx context.Context, client *rpc.Client, id string) {
	tunnel, err := client.Tunnel(ctx, id)
	if err != nil {
		a.cfg.Log.Warn("tunnel to a manager cannot be opened; its command for this node fails", "err", err)
		return
	}
	local, err := a.cfg.DialAPI(ctx)
	if err != nil {
		_ = tunnel.Close()
		a.cfg.Log.Error("a manager cannot be connected to this node's API; its command for this node fails", "err", err)
		return
	}
	if err := rpc.Relay(tunnel, local); err != nil && ctx.Err() == nil {
		a.cfg.Log.Debug("tunnel ended early", "err", err)
	}
}
