package shoal

import (
	"net/netip"
	"time"
)

// ClusterName is the name of the one Cluster object that the store has.
const ClusterName = "default"

// Cluster holds the settings, certificates and keys that all nodes of a cluster share. Spec is written by the API, the rest by membership.
type Cluster struct {
	ID ClusterID
	Meta
	Spec ClusterSpec
	// RootCA is the root certificate, and RootKey its private key, which signs the certificates of nodes; both are PEM. The key is missing if only external
	// authorities have it.
	RootCA  []byte
	RootKey []byte // sealed before it is stored
	Tokens  JoinTokens
	// Intermediates is PEM: one certificate for each rotation of the root, latest first, in which the old root signs the key of the
	// new one. Every node certificate is followed by them, so that a peer that still trusts only an old root accepts it.
	Intermediates []byte
	// Rotation is the root that the nodes are being moved to; nil when no rotation is under way.
	Rotation *RootRotation
	// DefaultAddrPool is the prefixes that subnets of overlay networks are taken from, and SubnetSize the length of their prefix, in bits.
	DefaultAddrPool []netip.Prefix
	SubnetSize      uint32
	DataPathPort    uint32 // UDP port of VXLAN on all nodes
	// TunnelSecret is WireGuard's preshared key between all nodes: it goes into every key that two nodes agree on to encrypt overlay
	// traffic. The leader replaces it regularly; TunnelSecretAt is when it last did. nil until the leader has made the first one.
	TunnelSecret   []byte // sealed before it is stored
	TunnelSecretAt time.Time
	// UnlockKey is the text of the key, "SWMKEY-1-…", that unlocks the managers' files; empty without autolock. It is sealed
	// before it is stored, as the tokens are.
	UnlockKey string
}

// RootRotation is the root that will replace the present one when every node has a certificate signed by it. Cert and Key are PEM; the key may be
// missing, as Cluster.RootKey.
type RootRotation struct {
	Cert []byte
	Key  []byte // sealed before it is stored
}

// JoinTokens holds the two tokens, "SWMTKN-1-…", that admit new nodes: one for each role.
type JoinTokens struct{ Worker, Manager string }

// ClusterSpec is the part of a cluster that users can change.
type ClusterSpec struct {
	Name             string
	Labels           map[string]string
	TaskHistoryLimit int64 // tasks that each slot keeps, the present one included; less than 1 counts as 1
	Raft             RaftConfig
	HeartbeatPeriod  time.Duration // half of it is the heartbeat timeout
	CertExpiry       time.Duration // validity of node certificates; 0 is DefaultCertExpiry
	ExternalCAs      []ExternalCA  // sign certificates of nodes in place of the managers
	ForceRotateCA    uint64        // a change of it starts a rotation of the root
	AutoLock         bool          // the managers' files need an unlock key after a restart
	DefaultLogDriver *Driver       // of new tasks whose service names none; nil is their node's default
}

// RaftConfig is what users set of swarmkit's raft. It is only kept and shown: etcd, which replicates our state, has settings of its own.
type RaftConfig struct {
	SnapshotInterval           uint64
	KeepOldSnapshots           *uint64
	LogEntriesForSlowFollowers uint64
	HeartbeatTick              int
	ElectionTick               int
}

// ProtocolCFSSL is the only protocol of external authorities, as in Docker: cfssl's API for signing.
const ProtocolCFSSL = "cfssl"

// ExternalCA is a signing service outside the cluster: see ClusterSpec.ExternalCAs.
type ExternalCA struct {
	Protocol string            // ProtocolCFSSL
	URL      string            // of the signing call
	Options  map[string]string // kept and shown only
	CACert   string            // PEM: the root certificate that it signs for; empty for the cluster's present one
}

const (
	// DefaultHeartbeatPeriod is Docker's default. A node that has been silent for half of it is Down.
	DefaultHeartbeatPeriod = 5 * time.Second
	// DefaultCertExpiry is Docker's default for the validity of node certificates.
	DefaultCertExpiry = 90 * 24 * time.Hour
	// DefaultTaskHistoryLimit is Docker's default for the number of tasks that a slot keeps, the present one included.
	DefaultTaskHistoryLimit = 5
	// DefaultDataPathPort is the UDP port that IANA has assigned to VXLAN (RFC 7348).
	DefaultDataPathPort = 4789
)
