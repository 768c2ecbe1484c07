package shoal

import "net/netip"

// SandboxSpec says what a container wants of the network.
type SandboxSpec struct {
	ContainerID string
	// Name is the container's name, without the slash that Docker's API puts before it.
	Name       string
	Hostname   string
	Domainname string
	// Mode is "bridge", "host", "none", "container:ID" or "networks" (then Endpoints says which).
	Mode      string
	Endpoints []EndpointRequest
	// Ports is the container's ports to publish on the node: those of `docker run --publish`, and the host-mode ports of a task.
	Ports      []PortBinding
	DNS        DNSConfig
	ExtraHosts []string // "name:IP"
	Links      []string // "container:alias", on the default bridge
	// Exposed is the ports that containers with a link to this one may reach where others may not; nothing but Protocol and Target counts.
	Exposed []PortBinding `json:",omitempty"`
	// TaskID and ServiceID are empty for a container that is no task.
	TaskID    TaskID
	ServiceID ServiceID
	// IngressAddr and IngressAddr6 are the task's addresses on the ingress network; not valid if none of its ports is published on the
	// routing mesh.
	IngressAddr  netip.Prefix
	IngressAddr6 netip.Prefix
}

// EndpointRequest asks for an endpoint on a network.
type EndpointRequest struct {
	Network string // name or ID
	// Addr and Addr6 are the addresses that the user asked for, or that the allocator gave a task; the network chooses those that are
	// not valid.
	Addr       netip.Addr
	Addr6      netip.Addr
	MAC        MAC // the zero MAC for the one that follows from the address: see MACFor
	Aliases    []string
	DriverOpts map[string]string
	Links      []string     // "container:alias", or "container": further names of other containers, for this one alone
	LinkLocal  []netip.Addr // further addresses of the interface, which are valid on its link
	GwPriority int          `json:",omitempty"` // of several networks, the one with the highest has the default route
}

// PortBinding publishes a container's port on the node.
type PortBinding struct {
	Protocol Protocol
	Target   uint16
	HostIP   netip.Addr // not valid or unspecified means every address of the node
	// HostPort is the node's port; 0 leaves the choice to the node. A HostPortEnd above HostPort asks for any port from HostPort to
	// HostPortEnd.
	HostPort    uint16
	HostPortEnd uint16
}

// Sandbox is what the network has given a container.
type Sandbox struct {
	// Netns is the path of the network namespace; empty for mode host.
	Netns string
	// ResolvConf, Hosts and HostnameAt are the paths of files on the node, to be mounted in the container as /etc/resolv.conf, /etc/hosts
	// and /etc/hostname.
	ResolvConf string
	Hosts      string
	HostnameAt string
	Endpoints  []EndpointInfo
	Ports      []PortBinding // as bound
}

// EndpointInfo is an endpoint as `docker container inspect` shows it.
type EndpointInfo struct {
	Network    string // name
	NetworkID  NetworkID
	EndpointID string // 64 hex digits
	Interface  string // its name in the container, such as "eth0"
	Addr       netip.Prefix
	Gateway    netip.Addr   // invalid if the network is internal or an overlay
	Addr6      netip.Prefix // invalid on a network without IPv6
	Gateway6   netip.Addr   // as Gateway
	MAC        MAC
	Aliases    []string
	DNSNames   []string
	DriverOpts map[string]string
	// Links, LinkLocal and GwPriority are as in the EndpointRequest.
	Links      []string     `json:",omitempty"`
	LinkLocal  []netip.Addr `json:",omitempty"`
	GwPriority int          `json:",omitempty"`
}
