package shoal

import "net/netip"

// EndpointState says whether load balancers may send connections to an endpoint. It is derived from the task's states, never stored.
type EndpointState string

const (
	EndpointStarting EndpointState = "starting" // has its address, but gets no connections yet
	EndpointReady    EndpointState = "ready"    // gets connections
	EndpointDraining EndpointState = "draining" // keeps its connections, gets no new ones
)

// Table is everything that a node must know about the cluster's networks: those that it takes part in, the services and endpoints on
// them, and all nodes. The dispatcher sends it, as deltas. A Table is immutable: it may be read without a lock and must not be changed,
// except by TableDelta.ApplyTo.
type Table struct {
	// Version is the store's revision that the table was made from. Agents report the version that their kernel has.
	Version      uint64
	NodeID       NodeID // the node that the table is for
	DataPathPort uint16 // UDP port of VXLAN
	// TunnelSecret is Cluster.TunnelSecret; nil for a node that is on no encrypted network.
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
	// DataAddr is where VXLAN packets for the node are sent.
	DataAddr netip.Addr
	// IngressAddr and IngressAddr6 are the node's own addresses on the ingress network; not valid where it has none.
	IngressAddr  netip.Addr
	IngressAddr6 netip.Addr
	// TunnelAddr is the node's address on the WireGuard interface, in TunnelRange, and TunnelKey its public key in base64. A node without
	// them gets no encrypted traffic.
	TunnelAddr netip.Addr
	TunnelKey  string
	// HostAddrs6 is the IPv6 addresses of the node's host: a client with one of them is the node itself.
	HostAddrs6 []netip.Addr
	// ProbeAddr is where the node answers liveness probes by UDP, on port 7946 unless --probe-port says otherwise.
	ProbeAddr netip.AddrPort
}

// ServiceEntry is a service as balancers and resolvers see it.
type ServiceEntry struct {
	ID   ServiceID
	Name string
	Mode ResolutionMode
	// Stack is the stack that the service belongs to; empty for none. Containers of a stack find its services before others of that name.
	Stack string
	// VIPs and VIPs6 are the service's virtual addresses on each network. A service in dnsrr mode has none.
	VIPs  map[NetworkID]netip.Prefix
	VIPs6 map[NetworkID]netip.Prefix
	// Ports is those published on the routing mesh.
	Ports []MeshPort
	// Aliases is the further names that the service has on each network.
	Aliases map[NetworkID][]string
}

// MeshPort is a port published on the routing mesh, and who may use it where.
type MeshPort struct {
	Port
	Rule PublishRule
}

// PublishRule restricts who may connect to a published port. It is read from the service's labels; the zero rule restricts nothing.
type PublishRule struct {
	// HostIPs is the node addresses that the port answers on; nil means all.
	HostIPs []netip.Addr
	// Allow is the source addresses that may connect; nil means all.
	Allow []netip.Prefix
	// SNAT replaces the client's address by the entry node's ingress address. Tasks need it if their answers would not go back by way of
	// that node.
	SNAT bool
}

// Endpoint is a task on one network, or a container of a user that is attached to it.
type Endpoint struct {
	TaskID      TaskID
	NetworkID   NetworkID
	NodeID      NodeID
	ServiceID   ServiceID // empty for an attached container
	Name        string    // the task's or container's full name
	ContainerID string
	Slot        uint64 // 0 for tasks of global services and attached containers
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
