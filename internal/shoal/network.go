package shoal

// Network drivers.
const (
	DriverBridge  = "bridge"
	DriverOverlay = "overlay"
	DriverHost    = "host"
	DriverNull    = "null"
	DriverMacvlan = "macvlan"
)

// Scopes of a network.
const (
	ScopeLocal = "local"
	ScopeSwarm = "swarm"
)

const (
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

// Subnet is a range of addresses; empty fields are filled in by who allocates.
type Subnet struct {
	Subnet  string // "10.0.1.0/24"
	Range   string // the part addresses are taken from
	Gateway string // "10.0.1.1"
	Aux     map[string]string
}

// MTU option of bridge and overlay networks.
const OptionMTU = "com.docker.network.driver.mtu"

// OptionEncrypted asks for an encrypted overlay, whatever its value.
const OptionEncrypted = "encrypted"

// TunnelRange is what nodes' addresses for encrypted traffic are taken from: a range for use between the machines of one operator
// (RFC 2544), which no host on the internet has. Only nodes see them, never containers.
const TunnelRange = "198.18.0.0/15"

// Encrypted tells whether the network's traffic between nodes must be encrypted.
func (n *Network) Encrypted() bool {
	_, asked := n.Spec.Options[OptionEncrypted]
	return asked
}
