package shoal

import "net/netip"

// Network drivers.
const (
	DriverBridge  = "bridge"  // a Linux bridge of one node
	DriverOverlay = "overlay" // spans the nodes of the cluster
	DriverHost    = "host"    // the node's own namespace
	DriverNull    = "null"    // none, and configuration-only networks
	DriverMacvlan = "macvlan" // containers on the link of an interface of the node
	DriverIPvlan  = "ipvlan"  // the same with the hardware address of that interface
)

// Scopes of a network.
const (
	ScopeLocal = "local" // one node
	ScopeSwarm = "swarm" // the cluster
)

const (
	// DefaultBridgeName is the bridge that containers are on which name no network.
	DefaultBridgeName = "bridge"
	// IngressName is the routing mesh's network.
	IngressName = "ingress"
	// GwbridgeName is the name of the local network by which tasks reach hosts outside of the cluster.
	GwbridgeName = "docker_gwbridge"
	// FirstVNI is the VXLAN network identifier of the first overlay network, the ingress network; the others follow.
	FirstVNI = 4096
)

// Network is a network, of the cluster (overlay) or of one node (the rest). Spec is written by the API; VNI and IPAM of
// cluster networks by the allocator, which may add subnets while the network is in use.
type Network struct {
	ID NetworkID
	Meta
	Spec NetworkSpec
	// VNI is the VXLAN network identifier, which tells packets of overlay networks apart; 0 until allocated, and for local networks.
	VNI uint32
	// IPAM is the network's subnets: those of Spec.IPAM, completed, and those that were added since. Empty until allocated.
	IPAM []Subnet
	// Err says why the network could not be allocated; empty if it was.
	Err string
}

// NetworkSpec is what the user asked for when the network was created.
type NetworkSpec struct {
	Name        string
	Labels      map[string]string
	Driver      string
	Scope       string
	Options     map[string]string
	EnableIPv4  *bool // nil means yes
	EnableIPv6  bool
	Internal    bool // no way to hosts outside of the network
	Attachable  bool // containers that are no tasks may join
	Ingress     bool // the network of the routing mesh
	IPAMDriver  string
	IPAMOptions map[string]string
	IPAM        []Subnet // empty leaves the choice to the engine
	ConfigFrom  string   // the name of a ConfigOnly network that this one takes its settings from
	ConfigOnly  bool     // holds settings for other networks and cannot be used itself
}

// HasIPv4 tells whether the network has IPv4 addresses.
func (s NetworkSpec) HasIPv4() bool { return s.EnableIPv4 == nil || *s.EnableIPv4 }

// Subnet is a range of addresses of a network. Fields of a spec that are not valid are filled in by the allocator, or for a local network
// by its node.
type Subnet struct {
	Subnet  netip.Prefix // 10.0.1.0/24
	Range   netip.Prefix // the part of Subnet that endpoints get their addresses from; not valid means all of it
	Gateway netip.Addr   // 10.0.1.1
	// Aux is the addresses of Subnet that no endpoint may get, by the names that the user gave them.
	Aux map[string]netip.Addr
}

// GatewayMode is how containers of a bridge are reached from outside by one family. The empty mode is GatewayNAT.
type GatewayMode string

// Modes of a bridge's gateway.
const (
	GatewayNAT         GatewayMode = "nat"             // by published ports of the node, which lead to them
	GatewayUnprotected GatewayMode = "nat-unprotected" // the same, and by every port of their own addresses
	GatewayRouted      GatewayMode = "routed"          // by published ports of their own addresses; nothing is translated
	GatewayIsolated    GatewayMode = "isolated"        // not at all: the bridge itself has no address either
)

// IPvlan is how the interfaces of an ipvlan network behave.
type IPvlan struct {
	Mode string // "l2", "l3" or "l3s"
	Flag string // "bridge", "private" or "vepa"
}

// OptionMTU is the driver option that sets the MTU, in bytes, of a bridge or overlay network.
const OptionMTU = "com.docker.network.driver.mtu"

// OptionEncrypted is the driver option that asks for an encrypted overlay network. Its value does not matter.
const OptionEncrypted = "encrypted"

// TunnelRange is 198.18.0.0/15, from which each node gets the address of its WireGuard interface. RFC 2544 reserves the range for tests
// between machines of one operator, so no host on the internet has such an address. Containers never see these addresses.
func TunnelRange() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15) }

// Encrypted tells whether the network's traffic between nodes must be encrypted.
func (n *Network) Encrypted() bool {
	_, asked := n.Spec.Options[OptionEncrypted]
	return asked
}
