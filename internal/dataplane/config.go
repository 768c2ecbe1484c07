package dataplane

import (
	"cmp"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Config is all that one node wants of its kernel. What there may be very much of is kept in maps that are made from those of the
// Config before: what an Apply costs then goes by what has changed, not by how much there is.
type Config struct {
	Bridges  map[string]*Bridge  // by interface name
	Overlays map[string]*Overlay // by network ID
	// Sandboxes is by namespace name (see Plane.Namespace).
	Sandboxes map[string]*Sandbox
	// Wire is nil while no overlay is encrypted.
	Wire *Wire
	// Ingress is nil while the node is in no cluster.
	Ingress *Ingress
	// Ports are those that this node's containers publish on it.
	Ports []Port
	// Mesh is the ports of the routing mesh. None of them is among Ports.
	Mesh MeshPorts
}

type (
	// Remotes are endpoints on other nodes. An IPv6 address must be that of an endpoint which has an IPv4 address too.
	Remotes = pmap.Map[netip.Addr, Remote]
	// Services are virtual addresses. A VIP is not changed once it is in use.
	Services = pmap.Map[netip.Addr, *VIP]
	// MeshPorts are ports that lead to tasks on any node.
	MeshPorts = pmap.Map[PortKey, *MeshPort]
	// Vias says by which address others are reached.
	Vias = pmap.Map[netip.Addr, netip.Addr]
)

// Bridge is a Linux bridge in the node's namespace, with egress through the node's own address.
type Bridge struct {
	Name    string
	Gateway netip.Prefix // the bridge's address and its subnet's length
	// Gateway6 is the same for IPv6; invalid for none.
	Gateway6 netip.Prefix
	MTU      int // 0: 1500
	// Internal bridges lead nowhere.
	Internal bool
	// NoICC keeps the containers of the bridge from talking to each other, save through published ports.
	NoICC bool
	// Masquerade hides the containers behind the node's address.
	Masquerade bool
}

// Overlay is one network of the cluster on this node: a namespace with a bridge and a VXLAN device.
type Overlay struct {
	ID   string
	VNI  uint32
	Port uint16
	// Local is the node's address on the data path.
	Local netip.Addr
	MTU   int // 0: that of the data path less 50
	// Encrypted overlays have Local and remote VTEPs on the wire, and leave and enter the node by no other way.
	Encrypted bool
	Remotes   Remotes
}

// Wire is the node's way to other nodes by which all that is to be encrypted travels: one WireGuard interface.
type Wire struct {
	wireguard.Config
	// Addr is the node's address on the wire, out of Range.
	Addr  netip.Addr
	Range netip.Prefix
	MTU   int
}

// Remote says behind which node an address is.
type Remote struct {
	MAC  string
	VTEP netip.Addr
}

// Sandbox is a container's namespace.
type Sandbox struct {
	Endpoints []Endpoint
	// Services are the virtual addresses that the container can reach, by network.
	Services map[string]Services
	// DNSPortUDP and DNSPortTCP are where 127.0.0.11:53 is answered; 0 for nowhere.
	DNSPortUDP, DNSPortTCP uint16
	// Seed turns the order of backends, so that not every sandbox starts with the same one.
	Seed uint32
}

// Endpoint is an interface in a sandbox. One of Bridge, Overlay and Parent is set; if none is, the interface leads nowhere and only
// carries the address.
type Endpoint struct {
	Name    string // eth0
	Bridge  string // a Config.Bridges key
	Overlay string // a Config.Overlays key
	Parent  string // an interface of the node that has the endpoint's as a further address (macvlan)
	Addr    netip.Prefix
	Addr6   netip.Prefix // invalid for none
	MAC     string
	// Gateway and Gateway6 are the default routes'; invalid for none.
	Gateway, Gateway6 netip.Addr
	// OnLink is what else is reached through the interface without a gateway: further subnets of the network.
	OnLink []netip.Prefix
}

// VIP is a service's virtual address on one network.
type VIP struct {
	Addr     netip.Addr
	Backends []netip.Addr
}

// Port is a published port of the node.
type Port struct {
	Protocol shoal.Protocol
	Port     uint16
	HostIP   netip.Addr // invalid or unspecified: any of the node's
	Backends []Backend
}

// Backend is where connections to a port go.
type Backend struct {
	Addr netip.Addr
	Port uint16
}

// PortKey is a port of the node.
type PortKey struct {
	Protocol shoal.Protocol
	Port     uint16
}

// Compare orders ports.
func (k PortKey) Compare(other PortKey) int {
	return cmp.Or(cmp.Compare(k.Protocol, other.Protocol), cmp.Compare(k.Port, other.Port))
}

// MeshPort is where connections to a port of the mesh go, and who may make them. It is not changed once it is in use.
type MeshPort struct {
	Backends []Backend
	Rule     shoal.PublishRule
}

// Ingress is the node's part in the routing mesh.
type Ingress struct {
	VNI   uint32
	Port  uint16
	Local netip.Addr
	MTU   int
	// Encrypted is as for an Overlay.
	Encrypted bool
	// Addr and Addr6 are the node's own addresses on the ingress network; it may have no Addr6.
	Addr  netip.Prefix
	Addr6 netip.Prefix
	Peers []IngressPeer
	// Tasks says for every task of another node on the mesh by which node it is reached (the node's ingress address).
	Tasks Vias
	// LocalTasks maps the ingress address of this node's tasks to their address on the gateway bridge.
	LocalTasks map[netip.Addr]netip.Addr
	Gwbridge   string
}

// IngressPeer is another node of the mesh.
type IngressPeer struct {
	Addr  netip.Addr // on the ingress network
	Addr6 netip.Addr // invalid for none
	VTEP  netip.Addr
	Host  netip.Addr // what the node has as a client
	// Hosts6 are the IPv6 addresses that the node has as a client.
	Hosts6 []netip.Addr
}
