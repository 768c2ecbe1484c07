package cluster

import (
	"cmp"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Status is this node's place in a cluster, in the words of the header "Swarm" of /_ping: "inactive", "active/manager",
// "active/worker", or another state such as "pending", "locked" or "error".
func (c *Swarm) Status() string {
	info := c.members.Info()
	switch {
	case info.State != "active":
		return info.State
	case info.IsManager:
		return "active/manager"
	default:
		return "active/worker"
	}
}

// Info is the cluster's part of /info. On a worker it has what the node itself knows, without counts and settings.
func (c *Swarm) Info() swarm.Info {
	local := c.members.Info()
	info := swarm.Info{
		NodeID: string(local.NodeID), NodeAddr: shoal.TextOf(local.NodeAddr), LocalNodeState: swarm.LocalNodeState(local.State),
		ControlAvailable: local.IsManager, Error: local.Err,
	}
	db, err := c.members.Store()
	if err != nil {
		for _, addr := range local.Managers {
			info.RemoteManagers = append(info.RemoteManagers, swarm.Peer{Addr: addr})
		}
		return info
	}
	view := db.View()
	for _, n := range view.Nodes() {
		info.Nodes++
		if n.Manager != nil {
			info.Managers++
			info.RemoteManagers = append(info.RemoteManagers, swarm.Peer{NodeID: string(n.ID), Addr: n.Manager.Addr})
		}
	}
	if cluster := view.Cluster(); cluster != nil {
		shown := toAPIClusterInfo(cluster)
		info.Cluster = &shown
		if setsRaft(cluster.Spec.Raft) {
			info.Warnings = append(info.Warnings, "WARNING: The Raft settings of the swarm have no effect: the managers' store has its own snapshots and times")
		}
	}
	return info
}

// Docker's defaults for the settings of raft. Clients show them; etcd, which keeps our state, has settings of its own.
const (
	defaultSnapshotInterval           = 10000
	defaultLogEntriesForSlowFollowers = 500
	defaultHeartbeatTick              = 1
	defaultElectionTick               = 10
)

// setsRaft tells whether somebody has asked for other settings than Docker's defaults.
func setsRaft(c shoal.RaftConfig) bool {
	return cmp.Or(c.SnapshotInterval, defaultSnapshotInterval) != defaultSnapshotInterval || c.KeepOldSnapshots != nil && *c.KeepOldSnapshots != 0 ||
		cmp.Or(c.LogEntriesForSlowFollowers, defaultLogEntriesForSlowFollowers) != defaultLogEntriesForSlowFollowers ||
		cmp.Or(c.HeartbeatTick, defaultHeartbeatTick) != defaultHeartbeatTick || cmp.Or(c.ElectionTick, defaultElectionTick) != defaultElectionTick
}

func toAPIClusterInfo(c *shoal.Cluster) swarm.ClusterInfo {
	limit := c.Spec.TaskHistoryLimit
	keep := c.Spec.Raft.KeepOldSnapshots
	if keep == nil {
		keep = new(uint64)
	}
	return swarm.ClusterInfo{
		ID:   string(c.ID),
		Meta: toAPIMeta(c.Meta),
		Spec: swarm.Spec{
			Annotations:   swarm.Annotations{Name: c.Spec.Name, Labels: convert.NonNil(c.Spec.Labels)},
			Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: &limit},
			Raft: swarm.RaftConfig{
				SnapshotInterval: cmp.Or(c.Spec.Raft.SnapshotInterval, defaultSnapshotInterval), KeepOldSnapshots: keep,
				LogEntriesForSlowFollowers: cmp.Or(c.Spec.Raft.LogEntriesForSlowFollowers, defaultLogEntriesForSlowFollowers),
				HeartbeatTick:              cmp.Or(c.Spec.Raft.HeartbeatTick, defaultHeartbeatTick),
				ElectionTick:               cmp.Or(c.Spec.Raft.ElectionTick, defaultElectionTick),
			},
			Dispatcher:       swarm.DispatcherConfig{HeartbeatPeriod: c.Spec.HeartbeatPeriod},
			CAConfig:         swarm.CAConfig{NodeCertExpiry: c.Spec.CertExpiry, ForceRotate: c.Spec.ForceRotateCA, ExternalCAs: toAPIExternalCAs(c.Spec.ExternalCAs)},
			TaskDefaults:     swarm.TaskDefaults{LogDriver: convert.ToAPIDriver(c.Spec.DefaultLogDriver)},
			EncryptionConfig: swarm.EncryptionConfig{AutoLockManagers: c.Spec.AutoLock},
		},
		TLSInfo: toAPITLSInfo(membership.TLSInfo(c)), RootRotationInProgress: c.Rotation != nil,
		DefaultAddrPool: c.DefaultAddrPool, SubnetSize: c.SubnetSize, DataPathPort: c.DataPathPort,
	}
}

func toAPIExternalCAs(all []shoal.ExternalCA) []*swarm.ExternalCA {
	var out []*swarm.ExternalCA
	for _, e := range all {
		out = append(out, &swarm.ExternalCA{Protocol: swarm.ExternalCAProtocol(e.Protocol), URL: e.URL, Options: e.Options, CACert: e.CACert})
	}
	return out
}

func toAPITLSInfo(t shoal.TLSInfo) swarm.TLSInfo {
	return swarm.TLSInfo{TrustRoot: t.TrustRoot, CertIssuerSubject: t.CertIssuerSubject, CertIssuerPublicKey: t.CertIssuerPublicKey}
}
