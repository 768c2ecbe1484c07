package shoal

import "net/netip"

// NodeRole is what a node is in the cluster.
type NodeRole string

// Roles of nodes. A manager runs tasks as a worker does, unless it is drained.
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

// NodeState says whether the managers are in touch with a node.
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
	// SpecOver is the Version of the node that the last change of Spec replaced. A client that has read a later version has seen the
	// present Spec, so that its update overwrites nothing unseen, even if the rest of the node has changed since.
	SpecOver    uint64
	Role        NodeRole // the role in its certificate; Spec.Role is the one that the user wants
	Description NodeDescription
	Status      NodeStatus
	Manager     *ManagerStatus // nil for a worker
	// DataAddr is where VXLAN packets for the node are sent: the advertise address, unless --data-path-addr says otherwise.
	DataAddr netip.Addr
	// ProbePort is the UDP port where the node answers liveness probes.
	ProbePort uint16
	// IngressAddr and IngressAddr6 are the node's own addresses on the ingress network, with the length of the subnet's prefix
	// (10.0.0.2/24); not valid until they are allocated.
	IngressAddr  netip.Prefix
	IngressAddr6 netip.Prefix
	// TunnelAddr is the address of the node's WireGuard interface, in TunnelRange; not valid until it is allocated.
	TunnelAddr netip.Addr
}

// NodeSpec is the part of a node that users can change.
type NodeSpec struct {
	Name         string
	Labels       map[string]string
	Role         NodeRole
	Availability Availability
}

// NodeDescription is what an agent reports about its node when its session begins.
type NodeDescription struct {
	Hostname      string
	Platform      Platform
	Resources     Resources
	EngineVersion string
	EngineLabels  map[string]string
	// TunnelKey is the public key of the node's WireGuard interface, in base64.
	TunnelKey string
	Plugins   []Plugin
	TLS       TLSInfo
	// Routes is the subnets in the routing table of the node's host, other than those of shoal's networks. Networks must not overlap them.
	Routes []netip.Prefix
	// Addrs6 is the IPv6 addresses of the node's host, without those that are only valid on a single link.
	Addrs6 []netip.Addr
}

// Plugin is a driver that the node has, as Docker lists them: {Network, overlay}, {Log, json-file}, {Volume, local}.
type Plugin struct{ Type, Name string }

// TLSInfo is the root that a node trusts (PEM) and the issuer of its certificate (subject and public key in DER), for `docker node inspect`.
type TLSInfo struct {
	TrustRoot           string
	CertIssuerSubject   []byte
	CertIssuerPublicKey []byte
}

// NodeStatus is the state of a node and its address as the managers know them.
type NodeStatus struct {
	State   NodeState
	Message string     // why the node is in this state; may be empty
	Addr    netip.Addr // what the node advertises, else where its connection came from
	// Absent says that the node's daemon has no session just now. Its tasks run and are balanced to, but it is given no new ones: they would wait for it.
	Absent bool
}

// ManagerStatus is what only a node that is a manager has.
type ManagerStatus struct {
	// MemberID is the ID of the node's etcd member, in hex; empty until the member has started.
	MemberID string
	// Addr is where the manager serves the node protocol: "10.0.0.1:2377".
	Addr string
	// PeerURL is where the other etcd members reach this one: "https://10.0.0.1:2378".
	PeerURL string
}

// NodeHasLeft is the message of the status of a node that has left the cluster.
const NodeHasLeft = "node has left"

// HasLeft tells of a node that will not come back under its old identity.
func (n *Node) HasLeft() bool { return n.Status.State == NodeDown && n.Status.Message == NodeHasLeft }

// Ready tells whether the node is in state Ready, so that tasks can be expected to run on it.
func (n *Node) Ready() bool { return n.Status.State == NodeReady }
