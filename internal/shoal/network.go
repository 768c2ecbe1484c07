package shoal

import "net/netip"

// Network drivers.
const (
	DriverBridge  = "bridge"  // a Linux bridge of one node
	DriverOverlay = "overlay" // spans the nodes of the cluster
	DriverHost    = "host"    // the node's own namespace
	DriverNull    = "null"    // none, and configuration-only networks
	DriverMacvlan = "macvlan" // containers on the link of an interface of the node
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
	// GwbridgeName is the bridge by which tasks reach the outside.
	GwbridgeName = "docker_gwbridge"
	// FirstVNI is the ingress network's; user networks follow.
	FirstVNI = 4096
)

// Network is a network, of the cluster (overlay) or of one node (the rest). Spec is written by the API; VNI and IPAM of
// cluster networks by the allocator, which may add subnets while the network is in use.
type Network struct {
	ID NetworkID
	Meta
	Spec NetworkSpec
	// VNI is the VXLAN network identifier of an overlay network; 0 until allocated.
	VNI uint32
	// IPAM is the subnets in use: those of Spec.IPAM with the allocator's choice filled in.
	IPAM []Subnet
	// Err says why the network could not be allocated; empty if it could, or has not been tried.
	Err string
}

// NetworkSpec is what the user asked for.
type NetworkSpec struct {
	Name        string
	Labels      map[string]string
	Driver      string
	Scope       string
	Options     map[string]string
	EnableIPv4  *bool // nil: yes
	EnableIPv6  bool
	Internal    bool
	Attachable  bool
	Ingress     bool
	IPAMDriver  string
	IPAMOptions map[string]string
	IPAM        []Subnet
	ConfigFrom  string
	ConfigOnly  bool
}

// Subnet is a range of addresses of a network. In a spec, fields that are not valid are left to whoever allocates.
type Subnet struct {
	Subnet  netip.Prefix // 10.0.1.0/24
	Range   netip.Prefix // the part of Subnet that endpoints get their addresses from; not valid: all of it
	Gateway netip.Addr   // 10.0.1.1
	// Aux is addresses of Subnet that no endpoint may get, by the name that the user gave them.
	Aux map[string]netip.Addr
}

// OptionMTU is the driver option that sets the MTU of bridge and overlay networks, in bytes.
const OptionMTU = "com.docker.network.driver.mtu"

// OptionEncrypted asks for an encrypted overlay, whatever its value.
const OptionEncrypted = "encrypted"

// TunnelRange is where nodes' addresses on the WireGuard interface are taken from: 198.18.0.0/15, reserved for tests within one
// network (RFC 2544), so that no host on the internet has them. Only nodes use them, never containers.
func TunnelRange() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15) }

// Encrypted tells whether the network's traffic between nodes must be encrypted.
func (n *Network) Encrypted() bool {
	_, asked := n.Spec.Options[OptionEncrypted]
	return asked
}
