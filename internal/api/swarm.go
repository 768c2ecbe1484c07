package api

import (
	"net/http"
	"net/netip"
	"strconv"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// clusters serves /swarm.
type clusters struct{ members *membership.Membership }

func (c *clusters) register(rt *router) {
	rt.handle("GET /swarm", c.inspect)
	rt.handle("POST /swarm/init", c.init)
	rt.handle("POST /swarm/join", c.join)
	rt.handle("POST /swarm/leave", c.leave)
	rt.handle("POST /swarm/update", c.update)
	rt.handle("GET /swarm/unlockkey", c.unlockKey)
	rt.handle("POST /swarm/unlock", c.unlock)
}

func (c *clusters) init(w http.ResponseWriter, r *http.Request) error {
	var req swarm.InitRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	req.Spec.EncryptionConfig.AutoLockManagers = req.Spec.EncryptionConfig.AutoLockManagers || req.AutoLockManagers
	spec, err := clusterSpecFrom(req.Spec)
	if err != nil {
		return err
	}
	id, err := c.members.Init(r.Context(), membership.InitRequest{
		ListenAddr: req.ListenAddr, AdvertiseAddr: req.AdvertiseAddr, DataPathAddr: req.DataPathAddr, DataPathPort: req.DataPathPort,
		DefaultAddrPool: prefixTexts(req.DefaultAddrPool), SubnetSize: req.SubnetSize, ForceNew: req.ForceNewCluster,
		Availability: shoal.Availability(req.Availability), Spec: spec,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, id)
}

func (c *clusters) join(_ http.ResponseWriter, r *http.Request) error {
	var req swarm.JoinRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	return c.members.Join(r.Context(), membership.JoinRequest{
		ListenAddr: req.ListenAddr, AdvertiseAddr: req.AdvertiseAddr, DataPathAddr: req.DataPathAddr,
		Remotes: req.RemoteAddrs, Token: req.JoinToken, Availability: shoal.Availability(req.Availability),
	})
}

func (c *clusters) leave(_ http.ResponseWriter, r *http.Request) error {
	return c.members.Leave(r.Context(), flag(r, "force"))
}

func (c *clusters) inspect(w http.ResponseWriter, _ *http.Request) error {
	s, err := c.members.Store()
	if err != nil {
		return err
	}
	cluster := s.View().Cluster()
	if cluster == nil {
		return fail(http.StatusServiceUnavailable, "the cluster is not ready")
	}
	return writeJSON(w, http.StatusOK, swarm.Swarm{
		ClusterInfo: clusterInfo(cluster),
		JoinTokens:  swarm.JoinTokens{Worker: cluster.Tokens.Worker, Manager: cluster.Tokens.Manager},
	})
}

func (c *clusters) update(_ http.ResponseWriter, r *http.Request) error {
	s, err := c.members.Store()
	if err != nil {
		return err
	}
	var req swarm.Spec
	if err := readJSON(r, &req); err != nil {
		return err
	}
	version, err := strconv.ParseUint(r.FormValue("version"), 10, 64)
	if err != nil {
		return fail(http.StatusBadRequest, "invalid swarm version '%s': %v", r.FormValue("version"), err)
	}
	spec, err := clusterSpecFrom(req)
	if err != nil {
		return err
	}
	if err := membership.CheckSpec(spec); err != nil {
		return err
	}
	err = s.Update(r.Context(), func(view store.View) (store.Changes, error) {
		var changes store.Changes
		cluster := *view.Cluster()
		if cluster.Version != version {
			return changes, shoal.ErrOutOfSequence
		}
		if spec.ForceRotateCA != cluster.Spec.ForceRotateCA {
			if err := membership.RotateRoot(&cluster); err != nil {
				return changes, err
			}
		}
		cluster.Spec = spec
		if err := membership.RotateTokens(&cluster, flag(r, "rotateWorkerToken"), flag(r, "rotateManagerToken")); err != nil {
			return changes, err
		}
		membership.SetAutolock(&cluster, flag(r, "rotateManagerUnlockKey"))
		changes.Put(&cluster)
		return changes, nil
	})
	return err
}

func (c *clusters) unlockKey(w http.ResponseWriter, _ *http.Request) error {
	s, err := c.members.Store()
	if err != nil {
		return err
	}
	cluster := s.View().Cluster()
	if cluster == nil {
		return fail(http.StatusServiceUnavailable, "the cluster is not ready")
	}
	return writeJSON(w, http.StatusOK, swarm.UnlockKeyResponse{UnlockKey: cluster.UnlockKey})
}

func (c *clusters) unlock(_ http.ResponseWriter, r *http.Request) error {
	var req swarm.UnlockRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	return c.members.Unlock(r.Context(), req.UnlockKey)
}

// clusterSpecFrom converts the API's settings.
func clusterSpecFrom(s swarm.Spec) (shoal.ClusterSpec, error) {
	spec := shoal.ClusterSpec{
		Name: s.Name, Labels: s.Labels, TaskHistoryLimit: shoal.DefaultTaskHistoryLimit,
		Raft: shoal.RaftConfig{
			SnapshotInterval: s.Raft.SnapshotInterval, KeepOldSnapshots: s.Raft.KeepOldSnapshots,
			LogEntriesForSlowFollowers: s.Raft.LogEntriesForSlowFollowers,
			HeartbeatTick:              s.Raft.HeartbeatTick, ElectionTick: s.Raft.ElectionTick,
		},
		HeartbeatPeriod: s.Dispatcher.HeartbeatPeriod, CertExpiry: s.CAConfig.NodeCertExpiry, ForceRotateCA: s.CAConfig.ForceRotate,
		AutoLock: s.EncryptionConfig.AutoLockManagers, DefaultLogDriver: driverFrom(s.TaskDefaults.LogDriver),
	}
	if limit := s.Orchestration.TaskHistoryRetentionLimit; limit != nil {
		spec.TaskHistoryLimit = *limit
	}
	if len(s.CAConfig.ExternalCAs) > 0 {
		return spec, shoal.InvalidArgument("external certificate authorities are not supported")
	}
	if s.CAConfig.SigningCACert != "" || s.CAConfig.SigningCAKey != "" {
		return spec, shoal.InvalidArgument("a root certificate from outside is not supported")
	}
	return spec, nil
}

// Docker's raft settings, shown as they are there; etcd has its own.
const (
	shownSnapshotInterval = 10000
	shownSlowFollowers    = 500
	shownHeartbeatTick    = 1
	shownElectionTick     = 10
)

func clusterInfo(c *shoal.Cluster) swarm.ClusterInfo {
	limit := c.Spec.TaskHistoryLimit
	keep := c.Spec.Raft.KeepOldSnapshots
	if keep == nil {
		keep = new(uint64)
	}
	return swarm.ClusterInfo{
		ID:   c.ID,
		Meta: metaTo(c.Meta),
		Spec: swarm.Spec{
			Annotations:   swarm.Annotations{Name: c.Spec.Name, Labels: orEmpty(c.Spec.Labels)},
			Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: &limit},
			Raft: swarm.RaftConfig{
				SnapshotInterval: or(c.Spec.Raft.SnapshotInterval, shownSnapshotInterval), KeepOldSnapshots: keep,
				LogEntriesForSlowFollowers: or(c.Spec.Raft.LogEntriesForSlowFollowers, shownSlowFollowers),
				HeartbeatTick:              or(c.Spec.Raft.HeartbeatTick, shownHeartbeatTick),
				ElectionTick:               or(c.Spec.Raft.ElectionTick, shownElectionTick),
			},
			Dispatcher:       swarm.DispatcherConfig{HeartbeatPeriod: c.Spec.HeartbeatPeriod},
			CAConfig:         swarm.CAConfig{NodeCertExpiry: c.Spec.CertExpiry, ForceRotate: c.Spec.ForceRotateCA},
			TaskDefaults:     swarm.TaskDefaults{LogDriver: driverTo(c.Spec.DefaultLogDriver)},
			EncryptionConfig: swarm.EncryptionConfig{AutoLockManagers: c.Spec.AutoLock},
		},
		TLSInfo: tlsInfoTo(membership.TLSInfo(c)), RootRotationInProgress: c.Rotation != nil,
		DefaultAddrPool: prefixes(c.DefaultAddrPool), SubnetSize: c.SubnetSize, DataPathPort: c.DataPathPort,
	}
}

func tlsInfoTo(t shoal.TLSInfo) swarm.TLSInfo {
	return swarm.TLSInfo{TrustRoot: t.TrustRoot, CertIssuerSubject: t.CertIssuerSubject, CertIssuerPublicKey: t.CertIssuerPublicKey}
}

func prefixTexts(ps []netip.Prefix) []string {
	out := make([]string, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
