package membership

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	// tunnelSecretAge is how old the secret of encrypted traffic gets. Keys that were agreed on with the old one stay in use until
	// they end by themselves, so that a new one interrupts nothing.
	tunnelSecretAge  = 12 * time.Hour
	tunnelSecretSize = 32
)

// setTunnelSecret gives a cluster a new secret for encrypted traffic.
func setTunnelSecret(cluster *shoal.Cluster, now time.Time) {
	cluster.TunnelSecret = make([]byte, tunnelSecretSize)
	_, _ = rand.Read(cluster.TunnelSecret) // never fails
	cluster.TunnelSecretAt = now
}

// tunnelSecretExpired tells whether it is time for another secret of encrypted traffic.
func tunnelSecretExpired(cluster *shoal.Cluster, now time.Time) bool {
	return cluster != nil && (cluster.TunnelSecret == nil || now.Sub(cluster.TunnelSecretAt) > tunnelSecretAge)
}

func (r *Roster) renewTunnelSecret(ctx context.Context, view store.View) {
	if !tunnelSecretExpired(view.Cluster(), time.Now()) {
		return
	}
	err := r.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if now := time.Now(); tunnelSecretExpired(view.Cluster(), now) {
			cluster := *view.Cluster()
			setTunnelSecret(&cluster, now)
			changes.Put(&cluster)
		}
		return changes, nil
	})
	if err != nil && ctx.Err() == nil {
		r.Log.Error("secret of encrypted traffic cannot be renewed; the present one stays in use, and it is tried again", "err", err)
	}
}
