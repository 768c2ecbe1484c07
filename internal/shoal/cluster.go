package shoal

import (
	"net/netip"
	"time"
)

// ClusterName is the one cluster object's name.
const ClusterName = "default"

// Cluster is the settings, keys and certificates of the whole cluster. Spec is written by the API, the rest by membership.
type Cluster struct {
	ID ClusterID
	Meta
	Spec ClusterSpec
	// RootCA is the root certificates that nodes trust (PEM), more than one while the root is being rotated. RootKey (PEM) signs the
	// nodes' certificates; it is sealed before it is stored.
	RootCA  []byte
	RootKey []byte
	Tokens  JoinTokens
	// Intermediates is every root after the first, each signed by the one before it (PEM). They are sent along with certificates of
	// the present root, so that a node which was off during rotations and trusts only an old root can verify them.
	Intermediates []byte
	// Rotation is set while the nodes get certificates of another root; nil otherwise.
	Rotation *RootRotation
	// DefaultAddrPool is the ranges that overlay networks get their subnets from, SubnetSize the prefix length of such a subnet.
	DefaultAddrPool []netip.Prefix
	SubnetSize      uint32
	DataPathPort    uint32 // UDP port of VXLAN
	// TunnelSecret is mixed into every key that two nodes agree on to encrypt overlay traffic (WireGuard's preshared key). Membership
	// replaces it from time to time; TunnelSecretAt is when it did last. It is sealed before it is stored.
	TunnelSecret   []byte
	TunnelSecretAt time.Time
	// UnlockKey is the key that managers' files are locked with ("SWMKEY-1-…"), sealed before it is stored; empty without autolock.
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
	// ExternalCAs is always empty: the API refuses external certificate authorities. It stays part of the stored form.
	ExternalCAs      []ExternalCA
	ForceRotateCA    uint64
	AutoLock         bool
	DefaultLogDriver *Driver
}

// RaftConfig is stored and shown as Docker's API wants it, but has no effect: etcd has its own settings.
type RaftConfig struct {
	SnapshotInterval           uint64
	KeepOldSnapshots           *uint64
	LogEntriesForSlowFollowers uint64
	HeartbeatTick              int
	ElectionTick               int
}

// ExternalCA is a signing service outside the cluster: see ClusterSpec.ExternalCAs.
type ExternalCA struct {
	Protocol string
	URL      string
	Options  map[string]string
	CACert   string
}

const (
	// DefaultHeartbeatPeriod is Docker's. A node without a session is declared down after half of it.
	DefaultHeartbeatPeriod = 5 * time.Second
	// DefaultCertExpiry is how long a node's certificate is valid, as with Docker.
	DefaultCertExpiry = 90 * 24 * time.Hour
	// DefaultTaskHistoryLimit is how many ended tasks of a slot are kept.
	DefaultTaskHistoryLimit = 5
	// DefaultDataPathPort is VXLAN's UDP port (RFC 7348).
	DefaultDataPathPort = 4789
)
