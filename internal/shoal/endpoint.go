package shoal

import "net/netip"

// EndpointState says what a balancer may do with an endpoint. It is derived from the task's states, never stored.
type EndpointState string

const (
	EndpointStarting EndpointState = "starting" // reachable, not balanced to
	EndpointReady    EndpointState = "ready"    // reachable, gets new connections
	EndpointDraining EndpointState = "draining" // keeps its connections, gets no new ones
)

// Table is all that a node must know of the cluster's networks, as pushed by the dispatcher: the networks it takes part in,
// the other nodes, and the services and endpoints on those networks. A Table is a value: whoever holds one may read it
// without a lock and must not change it.
type Table struct {
	// Version grows with every push of a manager's session; agents report the one they have applied.
	Version      uint64
	NodeID       NodeID // whose table this is
	DataPathPort uint16
	// TunnelSecret is the cluster's, for nodes on an encrypted network.
	TunnelSecret []byte
	Networks     map[NetworkID]Network
	Peers        map[NodeID]Peer
	Services     map[ServiceID]ServiceEntry
	Endpoints    map[EndpointKey]Endpoint // by Endpoint.Key
}

// Peer is a node as the data plane sees it. The table's own node is among them.
type Peer struct {
	NodeID   NodeID
	Hostname string
	// DataAddr is where VXLAN packets go.
	DataAddr netip.Addr
	// IngressAddr and IngressAddr6 are the node's own addresses on the ingress network.
	IngressAddr  netip.Addr
	IngressAddr6 netip.Addr
	// TunnelAddr is the node's address on the WireGuard interface, from TunnelRange; TunnelKey is its WireGuard public key in base64,
	// empty as long as the node has reported none.
	TunnelAddr netip.Addr
	TunnelKey  string
	// HostAddrs6 is the IPv6 addresses of the node's host. A connection from one of them comes from the node itself.
	HostAddrs6 []netip.Addr
	// ProbeAddr is where the node answers liveness probes (UDP 7946 unless said otherwise).
	ProbeAddr netip.AddrPort
}

// ServiceEntry is a service as balancers and resolvers see it.
type ServiceEntry struct {
	ID   ServiceID
	Name string
	Mode ResolutionMode
	// Stack is the stack that the service belongs to, empty for none. Where services of several stacks have the same alias, a task
	// finds the one of its own stack.
	Stack string
	// VIPs and VIPs6 are by network. A dnsrr service has none.
	VIPs  map[NetworkID]netip.Prefix
	VIPs6 map[NetworkID]netip.Prefix
	// Ports is the ports published on the routing mesh.
	Ports []MeshPort
	// Aliases is further names, by network.
	Aliases map[NetworkID][]string
}

// MeshPort is a port published on the routing mesh, and who may use it where.
type MeshPort struct {
	Port
	Rule PublishRule
}

// PublishRule narrows a published port down; the zero rule does not. It comes from the service's labels.
type PublishRule struct {
	// HostIPs are the addresses of nodes that the port answers on; none: all.
	HostIPs []netip.Addr
	// Allow are the sources that may connect; none: all.
	Allow []netip.Prefix
	// SNAT replaces the client's address by the entry node's ingress address, for tasks whose answers would not return through the
	// entry node otherwise.
	SNAT bool
}

// Endpoint is a task (or an attached container) on one network.
type Endpoint struct {
	TaskID      TaskID
	NetworkID   NetworkID
	NodeID      NodeID
	ServiceID   ServiceID // empty for an attached container
	Name        string    // the task's or container's full name
	ContainerID string
	Slot        uint64
	Addr        netip.Prefix
	Addr6       netip.Prefix // invalid on a network without IPv6
	MAC         MAC          // the zero MAC for the one that follows from Addr: see MACFor
	State       EndpointState
	Aliases     []string
}

// EndpointKey identifies an endpoint in a Table: "taskID/networkID".
type EndpointKey string

// Key is the endpoint's key in a table.
func (e Endpoint) Key() EndpointKey {
	return EndpointKey(string(e.TaskID) + "/" + string(e.NetworkID))
}
