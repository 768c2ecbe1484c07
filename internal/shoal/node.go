package shoal

import "net/netip"

// NodeRole is what a node is in the cluster.
type NodeRole string

// Roles of nodes. A manager runs tasks as a worker does, unless it is drained.
const (
	RoleWorker  NodeRole = "worker"
	RoleManager NodeRole = "manager"
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
	NodeUnknown      NodeState = "unknown"      // has joined and had no session yet
	NodeDown         NodeState = "down"         // has had no session for the heartbeat timeout
	NodeReady        NodeState = "ready"        // has a session
	NodeDisconnected NodeState = "disconnected" // part of Docker's API; never set
)

// Node is a machine of the cluster. Spec is written by the API; Role, Status, Manager and certificates by membership;
// Description by the dispatcher on the agent's word; IngressAddr and TunnelAddr by the allocator.
type Node struct {
	ID NodeID
	Meta
	Spec NodeSpec
	// SpecOver is the Version of the node that the last change of Spec replaced. A client that has read a later Version has seen the
	// present Spec and may update it, although Version has grown since by changes of other fields.
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

// NodeDescription is what an agent reports of its node.
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
	// Addrs6 is the IPv6 addresses of the node's host, without link-local ones.
	Addrs6 []netip.Addr
}

// Plugin is something a node can do: {Network, overlay}, {Log, json-file}, {Volume, local}.
type Plugin struct{ Type, Name string }

// TLSInfo is the root certificate that a node trusts (PEM) and who issued its own certificate (DER), for `docker node inspect`.
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

// ManagerStatus is what only managers have; Node.Manager is nil for a worker.
type ManagerStatus struct {
	// MemberID is the node's etcd member, in hex.
	MemberID string
	// Addr is where the node protocol is served, "10.0.0.1:2377".
	Addr string
	// PeerURL is where the other managers' etcd members reach this one, "https://10.0.0.1:2378".
	PeerURL string
}

// Ready tells whether the node has a session with the leader.
func (n *Node) Ready() bool { return n.Status.State == NodeReady }
