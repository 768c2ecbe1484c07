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
	ID   NetworkID
	Meta // ID is 25 characters for cluster networks, 64 hex digits for local ones
	Spec NetworkSpec
	// VNI tells overlay networks apart on the wire; 0 until allocated.
	VNI uint32
	// IPAM is what Spec.IPAM asked for, completed.
	IPAM []Subnet
	// Err says why the network could not be allocated.
	Err string
}

// NetworkSpec is what the user asked for.
type NetworkSpec struct {
	Name        string
	Labels      map[string]string
	Driver      string
	Scope       string
	Options     map[string]string
	EnableIPv4  *bool
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

// OptionMTU is the MTU in bytes of bridge and overlay networks.
const OptionMTU = "com.docker.network.driver.mtu"

// OptionEncrypted asks for an encrypted overlay, whatever its value.
const OptionEncrypted = "encrypted"

// TunnelRange is what nodes' addresses for encrypted traffic are taken from: a range for use between the machines of one operator
// (RFC 2544), which no host on the internet has. Only nodes see them, never containers.
func TunnelRange() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15) }

// Encrypted tells whether the network's traffic between nodes must be encrypted.
func (n *Network) Encrypted() bool {
	_, asked := n.Spec.Options[OptionEncrypted]
	return asked
}
