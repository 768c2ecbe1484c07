package shoal

import (
	"net/netip"
	"time"
)

// ClusterName is the one cluster object's name.
const ClusterName = "default"

// Cluster is the settings and the trust of the whole. Spec is written by the API, the rest by membership.
type Cluster struct {
	ID ClusterID
	Meta
	Spec ClusterSpec
	// RootCA is certificates (PEM); RootKey signs them and is sealed before it is stored.
	RootCA  []byte
	RootKey []byte
	Tokens  JoinTokens
	// Intermediates is every root after the first, each signed by the one before it (PEM): who still trusts an old root
	// trusts certificates of the present one that carry these along.
	Intermediates []byte
	// Rotation is set while the nodes are on their way to another root.
	Rotation *RootRotation
	// DefaultAddrPool and SubnetSize are what overlay subnets are cut from.
	DefaultAddrPool []netip.Prefix
	SubnetSize      uint32
	DataPathPort    uint32
	// TunnelSecret goes into every key that two nodes agree on to encrypt overlay traffic. It is made anew from time to time and
	// sealed before it is stored.
	TunnelSecret   []byte
	TunnelSecretAt time.Time
	// UnlockKey is set under autolock.
	UnlockKey string
}

// RootRotation is the root that is to take the place of the present one. New certificates are signed by it.
type RootRotation struct {
	Cert []byte
	Key  []byte // sealed before it is stored
}

// JoinTokens admits new nodes.
type JoinTokens struct{ Worker, Manager string }

// ClusterSpec is what the user can change of a cluster.
type ClusterSpec struct {
	Name             string
	Labels           map[string]string
	TaskHistoryLimit int64
	Raft             RaftConfig
	HeartbeatPeriod  time.Duration
	CertExpiry       time.Duration
	ExternalCAs      []ExternalCA
	ForceRotateCA    uint64
	AutoLock         bool
	DefaultLogDriver *Driver
}

// RaftConfig is kept for the API's sake: etcd has its own settings.
type RaftConfig struct {
	SnapshotInterval           uint64
	KeepOldSnapshots           *uint64
	LogEntriesForSlowFollowers uint64
	HeartbeatTick              int
	ElectionTick               int
}

// ExternalCA is a signing service outside the cluster.
type ExternalCA struct {
	Protocol string
	URL      string
	Options  map[string]string
	CACert   string
}

const (
	// DefaultHeartbeatPeriod is Docker's; a node is declared down after half of it without a word.
	DefaultHeartbeatPeriod = 5 * time.Second
	// DefaultCertExpiry is Docker's.
	DefaultCertExpiry = 90 * 24 * time.Hour
	// DefaultTaskHistoryLimit is how many ended tasks a slot keeps.
	DefaultTaskHistoryLimit = 5
	// DefaultDataPathPort is VXLAN's.
	DefaultDataPathPort = 4789
)
