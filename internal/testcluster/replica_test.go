package testcluster

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/daemon/swarm/membertest"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// replicas runs members of one log.
type replicas struct {
	log *replicatedLog
	dir string
}

func (r *replicas) PeerURL(name string) string {
	return map[string]string{"a": "https://10.0.0.1:2378", "b": "https://10.0.0.2:2378"}[name]
}

func (r *replicas) Start(ctx context.Context, name string, initial map[string]string) (swarm.Member, error) {
	member, err := r.log.start(ctx, memberConfig{name: name, dir: filepath.Join(r.dir, name), peerURL: r.PeerURL(name), join: initial != nil})
	if err != nil {
		return nil, err
	}
	return member, nil
}

func newReplicas(t *testing.T) *replicas {
	return &replicas{newReplicatedLog(newNetwork(), 1), t.TempDir()}
}

func TestTheLogIsABackend(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Backend {
		r, err := newReplicas(t).Start(t.Context(), "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	})
}

func TestTheLogHasMembersLikeEtcd(t *testing.T) {
	membertest.Run(t, func(t *testing.T, test func(*testing.T, membertest.Machines)) {
		synctest.Test(t, func(t *testing.T) { test(t, newReplicas(t)) })
	})
}
