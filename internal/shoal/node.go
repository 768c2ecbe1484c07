package shoal

import "net/netip"

// NodeRole is what a node is in the cluster.
type NodeRole string

const (
	RoleWorker  NodeRole = "worker"  // runs tasks
	RoleManager NodeRole = "manager" // runs tasks, keeps the cluster's state and serves its API
)

// Availability says whether a node takes tasks.
type Availability string

const (
	AvailabilityActive Availability = "active" // takes new tasks
	AvailabilityPause  Availability = "pause"  // keeps its tasks, takes no new ones
	AvailabilityDrain  Availability = "drain"  // gives up its tasks
)

// NodeState is the managers' verdict on a node.
type NodeState string

const (
	NodeUnknown      NodeState = "unknown"      // has joined, but had no session yet
	NodeDown         NodeState = "down"         // has had no session for the heartbeat timeout
	NodeReady        NodeState = "ready"        // has a session with the leader
	NodeDisconnected NodeState = "disconnected" // a state of Docker's API that no node of ours is in
)

// Node is a machine of the cluster. Spec is written by the API; Role, Status, Manager and certificates by membership;
// Description by the dispatcher on the agent's word; IngressAddr and TunnelAddr by the allocator.
type Node struct {
	ID NodeID
	Meta
	Spec NodeSpec
	// SpecOver is the Version that the last change of Spec was made to: who has read a later one has read that Spec.
	SpecOver    uint64
	Role        NodeRole // as its certificate says; Spec.Role is what the user wants
	Description NodeDescription
	Status      NodeStatus
	Manager     *ManagerStatus
	// DataAddr is where the node's VXLAN packets go; the advertise address unless --data-path-addr says otherwise.
	DataAddr netip.Addr
	// ProbePort is where the node answers liveness probes (UDP).
	ProbePort uint16
	// IngressAddr and IngressAddr6 are the node's own addresses on the ingress network, with the length of the subnet's prefix
	// (10.0.0.2/24); not valid until they are allocated.
	IngressAddr  netip.Prefix
	IngressAddr6 netip.Prefix
	// TunnelAddr is the node's address among those that encrypted traffic travels between, in TunnelRange; not valid until
	// allocated.
	TunnelAddr netip.Addr
}

// NodeSpec is what the user can change of a node.
type NodeSpec struct {
	Name         string
	Labels       map[string]string
	Role         NodeRole
	Availability Availability
}

// NodeDescription is what an agent tells of its node.
type NodeDescription struct {
	Hostname      string
	Platform      Platform
	Resources     Resources
	EngineVersion string
	EngineLabels  map[string]string
	// TunnelKey is the public key of the node for encrypted overlays, in base64.
	TunnelKey string
	Plugins   []Plugin
	TLS       TLSInfo
	// Routes is the subnets that the node's host reaches outside of shoal; networks must not overlap them.
	Routes []netip.Prefix
	// Addrs6 are the IPv6 addresses of the node's host that reach beyond its own links.
	Addrs6 []netip.Addr
}

// Plugin is something a node can do: {Network, overlay}, {Log, json-file}, {Volume, local}.
type Plugin struct{ Type, Name string }

// TLSInfo is the trust a node has, for `docker node inspect`.
type TLSInfo struct {
	TrustRoot           string
	CertIssuerSubject   []byte
	CertIssuerPublicKey []byte
}

// NodeStatus is the managers' verdict and the address they see the node at.
type NodeStatus struct {
	State   NodeState
	Message string
	Addr    netip.Addr
}

// ManagerStatus is the part of a node that is a manager.
type ManagerStatus struct {
	// MemberID is the node's etcd member, in hex.
	MemberID string
	// Addr is where the node protocol is served, "10.0.0.1:2377".
	Addr string
	// PeerURL is where the member is reached by the others.
	PeerURL string
}

// Ready tells whether tasks run on the node as far as the managers know.
func (n *Node) Ready() bool { return n.Status.State == NodeReady }
