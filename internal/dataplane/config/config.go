// Package config is the vocabulary of the data plane: what one node wants of its kernel, as values. It reads and writes nothing. Package
// dataplane applies a Config; the packages next to this one each apply a part of it.
package config

import (
	"cmp"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Config is all that one node wants of its kernel. What there may be thousands of stands in persistent maps: a Config whose maps were made from
// those of the Config before is applied in time by what has changed, not by how much there is. Neither a Config nor anything that it points to
// may be changed once it was applied. The zero Config wants nothing, and applying it removes everything.
type Config struct {
	Bridges  map[string]*Bridge  // by interface name
	Overlays map[string]*Overlay // by network ID
	// Sandboxes is by namespace name. The namespaces must exist: see dataplane.Plane.Namespace.
	Sandboxes map[string]*Sandbox
	// WireGuard is nil while no overlay is encrypted.
	WireGuard *WireGuard
	// Ingress is nil while the node is in no cluster.
	Ingress *Ingress
	// Ports are those that this node's own containers publish on it.
	Ports []Port
	// Direct is the containers' own ports that are reached without translation.
	Direct []DirectPort
	// Links is what may be reached on bridges whose containers do not talk to each other.
	Links []Link
	// Mesh is the ports of the routing mesh. None of them may be among Ports.
	Mesh MeshPorts
}

type (
	// Remotes are the endpoints on other nodes, by address. An IPv6 address must be that of an endpoint which has an IPv4 address too.
	Remotes = pmap.Map[netip.Addr, Remote]
	// Services are virtual addresses. A VIP must not be changed once it is in use: put a new one in its place.
	Services = pmap.Map[netip.Addr, *VIP]
	// ServiceChange is a virtual address that appears, disappears or gets other backends.
	ServiceChange = pmap.Change[netip.Addr, *VIP]
	// MeshPorts are ports that lead to tasks on any node.
	MeshPorts = pmap.Map[PortKey, *MeshPort]
	// NextHops are host routes: by destination, the gateway that it is reached through.
	NextHops = pmap.Map[netip.Addr, netip.Addr]
)

// Bridge is a Linux bridge in the node's namespace, with egress through the node's own address.
type Bridge struct {
	Name    string
	Gateway netip.Prefix // the bridge's IPv4 address and its subnet's length
	// Gateway6 is the same for IPv6; invalid for none.
	Gateway6 netip.Prefix
	MTU      int // in bytes; 0 for 1500
	// Given bridges were made by somebody else, who has to make them: they are used and never removed.
	Given bool
	// Internal bridges lead nowhere: what comes from them or goes to them is not forwarded.
	Internal bool
	// NoICC keeps the containers of the bridge from talking to each other, save through published ports.
	NoICC bool
	// Masquerade gives what leaves the node the node's address as its source, or Source and Source6 where they are valid.
	Masquerade      bool
	Source, Source6 netip.Addr
	// NoAddr leaves Gateway to somebody else: the bridge does not get the address.
	NoAddr bool
	// Mode and Mode6 are how containers are reached from outside.
	Mode, Mode6 shoal.GatewayMode
}

// Overlay is one network of the cluster on this node: a namespace with a bridge and a VXLAN device.
type Overlay struct {
	ID   string
	VNI  uint32 // 24 bits
	Port uint16 // UDP port of VXLAN
	// Local is the node's own tunnel endpoint (VTEP): its address on the data path.
	Local netip.Addr
	MTU   int // in bytes; 0 for that of the data path less VXLAN's overhead
	// Encrypted overlays have Local and remote VTEPs on the WireGuard device, and their packets leave and enter the node by no other way.
	Encrypted bool
	Remotes   Remotes
}

// WireGuard is the node's one WireGuard interface, by which everything travels to other nodes that is to be encrypted.
type WireGuard struct {
	wireguard.Config
	// Addr is the node's tunnel address, out of Range. All of Range is routed through the interface, and nowhere else.
	Addr  netip.Addr
	Range netip.Prefix
	MTU   int // in bytes
}

// Remote says behind which node an address is.
type Remote struct {
	MAC shoal.MAC
	// VTEP is the node's tunnel endpoint.
	VTEP netip.Addr
}

// Sandbox is a container's network namespace.
type Sandbox struct {
	Endpoints []Endpoint
	// Services are the virtual addresses that the container can reach, by network.
	Services map[string]Services
	// DNSPortUDP and DNSPortTCP are the ports of 127.0.0.11 that answer for port 53; 0 for none.
	DNSPortUDP, DNSPortTCP uint16
	// Seed rotates the order of backends, so that not every sandbox begins with the same one.
	Seed uint32
}

// Endpoint is an interface in a sandbox. At most one of Bridge, Overlay and Parent is set; if none is, the interface leads nowhere and only
// carries the address.
type Endpoint struct {
	Name    string // of the interface: eth0
	Bridge  string // a key of Config.Bridges
	Overlay string // a key of Config.Overlays
	Parent  string // for macvlan and ipvlan: an interface of the node
	// MacvlanMode is "private", "vepa", "passthru", or empty for "bridge".
	MacvlanMode string
	IPvlan      *shoal.IPvlan // nil for macvlan
	Addr        netip.Prefix  // invalid for none
	Addr6       netip.Prefix  // invalid for none
	Further     []netip.Prefix
	MAC         shoal.MAC // the zero MAC for the one derived from the addresses; an ipvlan interface has that of its parent
	// Gateway and Gateway6 are the default routes' next hops; invalid for none.
	Gateway, Gateway6 netip.Addr
	// ByDevice and ByDevice6 lead default routes through the interface without a next hop.
	ByDevice, ByDevice6 bool
	// Sysctls are the interface's settings.
	Sysctls []shoal.Sysctl
	// OnLink is what else is reached through the interface without a gateway: further subnets of the network.
	OnLink []netip.Prefix
}

// HardwareAddr is the interface's MAC: the one that was asked for, or else the one that Docker would derive from the address.
func (e Endpoint) HardwareAddr() shoal.MAC {
	return cmp.Or(e.MAC, shoal.MACFor(e.Addr.Addr()), shoal.MACFor6(e.Addr6.Addr()))
}

// Addrs is all addresses of the interface.
func (e Endpoint) Addrs() []netip.Prefix {
	return append([]netip.Prefix{e.Addr, e.Addr6}, e.Further...)
}

// VIP is a service's virtual address on one network. Without backends, connections to it are refused.
type VIP struct {
	Addr     netip.Addr
	Backends []netip.Addr // of Addr's family
}

// Port is a published port of the node.
type Port struct {
	Protocol shoal.Protocol
	Port     uint16
	HostIP   netip.Addr // invalid or unspecified for any of the node's
	Backends []Backend  // none: connections are refused
}

// DirectPort is a port of a container on a bridge which is reached at the container's own address.
type DirectPort struct {
	Bridge   string // a key of Config.Bridges
	From     string // the interface of the node that connections come from; empty for any
	Addr     netip.Addr
	Protocol shoal.Protocol
	Port     uint16
}

// Link is a port of a container that one other container on its bridge may connect to.
type Link struct {
	Bridge   string // a key of Config.Bridges
	From, To netip.Addr
	Protocol shoal.Protocol
	Port     uint16
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

// Compare orders ports by protocol, then by number.
func (k PortKey) Compare(other PortKey) int {
	return cmp.Or(cmp.Compare(k.Protocol, other.Protocol), cmp.Compare(k.Port, other.Port))
}

// MeshPort is where connections to a port of the mesh go, and who may make them. It must not be changed once it is in use.
type MeshPort struct {
	Backends []Backend
	Rule     shoal.PublishRule
}

// Ingress is the node's part in the routing mesh.
type Ingress struct {
	VNI  uint32 // 24 bits
	Port uint16 // UDP port of VXLAN
	// Local is the node's own tunnel endpoint (VTEP).
	Local netip.Addr
	MTU   int // in bytes; 0 for that of the data path less VXLAN's overhead
	// Encrypted is as for an Overlay.
	Encrypted bool
	// Addr and Addr6 are the node's own addresses on the ingress network; it may have no Addr6.
	Addr  netip.Prefix
	Addr6 netip.Prefix
	Peers []IngressPeer
	// Tasks are the routes to the mesh's tasks on other nodes; the next hop is the ingress address of the task's node.
	Tasks NextHops
	// LocalTasks maps the ingress addresses of this node's tasks to their addresses on the gateway bridge.
	LocalTasks map[netip.Addr]netip.Addr
	// GatewayBridge is the name of the bridge that this node's tasks are reached by, and a key of Config.Bridges.
	GatewayBridge string
}

// IngressPeer is another node of the mesh.
type IngressPeer struct {
	Addr  netip.Addr // its address on the ingress network
	Addr6 netip.Addr // the same for IPv6; invalid for none
	VTEP  netip.Addr
	// Host is the IPv4 address that connections of the node itself come from, and Hosts6 are those that they may come from by IPv6.
	Host   netip.Addr
	Hosts6 []netip.Addr
}
