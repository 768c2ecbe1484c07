package cluster

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Swarm serves /swarm, and tells the engine's resources of this node's place in the cluster.
type Swarm struct{ members *membership.Membership }

// NewSwarm returns the resource of the cluster that this node is, or may become, a member of.
func NewSwarm(members *membership.Membership) *Swarm { return &Swarm{members} }

// Register implements server.Resource.
func (c *Swarm) Register(rt *server.Router) {
	rt.Handle("GET /swarm", c.inspect)
	rt.Handle("POST /swarm/init", c.init)
	rt.Handle("POST /swarm/join", c.join)
	rt.Handle("POST /swarm/leave", c.leave)
	rt.Handle("POST /swarm/update", c.update)
	rt.Handle("GET /swarm/unlockkey", c.unlockKey)
	rt.Handle("POST /swarm/unlock", c.unlock)
}

func (c *Swarm) init(w http.ResponseWriter, r *http.Request) error {
	var req swarm.InitRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	req.Spec.EncryptionConfig.AutoLockManagers = req.Spec.EncryptionConfig.AutoLockManagers || req.AutoLockManagers
	if req.Spec.CAConfig.SigningCACert != "" || req.Spec.CAConfig.SigningCAKey != "" {
		return shoal.InvalidArgument("a new swarm makes its own root certificate: replace it afterwards with \"docker swarm ca --rotate\"")
	}
	spec, err := fromAPIClusterSpec(req.Spec)
	if err != nil {
		return err
	}
	id, err := c.members.Init(r.Context(), membership.InitRequest{
		ListenAddr: req.ListenAddr, AdvertiseAddr: req.AdvertiseAddr, DataPathAddr: req.DataPathAddr, DataPathPort: req.DataPathPort,
		DefaultAddrPool: req.DefaultAddrPool, SubnetSize: req.SubnetSize, ForceNew: req.ForceNewCluster,
		Availability: shoal.Availability(req.Availability), Spec: spec,
	})
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, id)
}

func (c *Swarm) join(_ http.ResponseWriter, r *http.Request) error {
	var req swarm.JoinRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	return c.members.Join(r.Context(), membership.JoinRequest{
		ListenAddr: req.ListenAddr, AdvertiseAddr: req.AdvertiseAddr, DataPathAddr: req.DataPathAddr,
		Remotes: req.RemoteAddrs, Token: req.JoinToken, Availability: shoal.Availability(req.Availability),
	})
}

func (c *Swarm) leave(_ http.ResponseWriter, r *http.Request) error {
	return c.members.Leave(r.Context(), server.BoolParam(r, "force"))
}

// cluster is the cluster's settings, which a manager has from the first time that it has read the store.
func (c *Swarm) cluster() (*shoal.Cluster, error) {
	s, err := c.members.Store()
	if err != nil {
		return nil, err
	}
	cluster := s.View().Cluster()
	if cluster == nil {
		return nil, server.Errorf(http.StatusServiceUnavailable, "the cluster is not ready")
	}
	return cluster, nil
}

func (c *Swarm) inspect(w http.ResponseWriter, _ *http.Request) error {
	cluster, err := c.cluster()
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, swarm.Swarm{
		ClusterInfo: toAPIClusterInfo(cluster),
		JoinTokens:  swarm.JoinTokens{Worker: cluster.Tokens.Worker, Manager: cluster.Tokens.Manager},
	})
}

func (c *Swarm) update(_ http.ResponseWriter, r *http.Request) error {
	s, err := c.members.Store()
	if err != nil {
		return err
	}
	var req swarm.Spec
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	version, err := objectVersion(r, "swarm")
	if err != nil {
		return err
	}
	spec, err := fromAPIClusterSpec(req)
	if err != nil {
		return err
	}
	if err := membership.CheckSpec(spec); err != nil {
		return err
	}
	present, err := c.cluster()
	if err != nil {
		return err
	}
	if present.Version != version {
		return shoal.ErrOutOfSequence
	}
	changed := *present
	changed.Spec = spec
	wanted := membership.SigningCA{Cert: []byte(req.CAConfig.SigningCACert), Key: []byte(req.CAConfig.SigningCAKey)}
	if err := c.members.ChangeCA(r.Context(), &changed, wanted, spec.ForceRotateCA != present.Spec.ForceRotateCA); err != nil {
		return err
	}
	err = s.Update(r.Context(), func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if view.Cluster().Version != version { // so that it is the cluster that was changed
			return changes, shoal.ErrOutOfSequence
		}
		cluster := changed
		if err := membership.RotateTokens(&cluster, server.BoolParam(r, "rotateWorkerToken"), server.BoolParam(r, "rotateManagerToken")); err != nil {
			return changes, err
		}
		membership.SetAutolock(&cluster, server.BoolParam(r, "rotateManagerUnlockKey"))
		changes.Put(&cluster)
		return changes, nil
	})
	return err
}

func (c *Swarm) unlockKey(w http.ResponseWriter, _ *http.Request) error {
	cluster, err := c.cluster()
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, swarm.UnlockKeyResponse{UnlockKey: cluster.UnlockKey})
}

func (c *Swarm) unlock(_ http.ResponseWriter, r *http.Request) error {
	var req swarm.UnlockRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	return c.members.Unlock(r.Context(), req.UnlockKey)
}

// fromAPIClusterSpec reads the cluster's settings, and refuses those that would have no effect.
func fromAPIClusterSpec(s swarm.Spec) (shoal.ClusterSpec, error) {
	spec := shoal.ClusterSpec{
		Name: s.Name, Labels: s.Labels, TaskHistoryLimit: shoal.DefaultTaskHistoryLimit,
		Raft: shoal.RaftConfig{
			SnapshotInterval: s.Raft.SnapshotInterval, KeepOldSnapshots: s.Raft.KeepOldSnapshots,
			LogEntriesForSlowFollowers: s.Raft.LogEntriesForSlowFollowers,
			HeartbeatTick:              s.Raft.HeartbeatTick, ElectionTick: s.Raft.ElectionTick,
		},
		HeartbeatPeriod: s.Dispatcher.HeartbeatPeriod, CertExpiry: s.CAConfig.NodeCertExpiry, ForceRotateCA: s.CAConfig.ForceRotate,
		AutoLock: s.EncryptionConfig.AutoLockManagers, DefaultLogDriver: convert.FromAPIDriver(s.TaskDefaults.LogDriver),
	}
	if limit := s.Orchestration.TaskHistoryRetentionLimit; limit != nil {
		spec.TaskHistoryLimit = *limit
	}
	for _, e := range s.CAConfig.ExternalCAs {
		protocol := strings.ToLower(string(e.Protocol))
		if protocol != shoal.ProtocolCFSSL {
			return spec, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid protocol: %q", e.Protocol))
		}
		spec.ExternalCAs = append(spec.ExternalCAs, shoal.ExternalCA{Protocol: protocol, URL: e.URL, Options: e.Options, CACert: e.CACert})
	}
	return spec, nil
}
