package agent

import (
	"context"

	"github.com/shoal-dev/shoal/internal/rpc"
)

// openTunnel gives a manager a connection to the node's own API.
func (a *Agent) openTunnel(ctx context.Context, client *rpc.Client, id string) {
	a.tasks.Go(func() {
		tunnel, err := client.Tunnel(ctx, id)
		if err != nil {
			a.cfg.Log.Warn("open tunnel", "err", err)
			return
		}
		local, err := a.cfg.DialAPI(ctx)
		if err != nil {
			_ = tunnel.Close()
			a.cfg.Log.Error("connect a manager to the API", "err", err)
			return
		}
		if err := rpc.Relay(tunnel, local); err != nil && ctx.Err() == nil {
			a.cfg.Log.Debug("tunnel ended early", "err", err)
		}
	})
}
