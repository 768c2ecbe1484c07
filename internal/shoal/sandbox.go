package shoal

import "net/netip"

// SandboxSpec is a container's wishes towards the network.
type SandboxSpec struct {
	ContainerID string
	// Name is the container's, without a slash.
	Name       string
	Hostname   string
	Domainname string
	// Mode is "bridge", "host", "none", "container:ID" or "networks" (then Endpoints says which).
	Mode      string
	Endpoints []EndpointRequest
	// Ports is the published ports of the container (bridge publishing and host-mode ports of tasks).
	Ports      []PortBinding
	DNS        DNSConfig
	ExtraHosts []string // "name:IP"
	Links      []string // "container:alias", on the default bridge
	// TaskID and ServiceID are set for a task's container.
	TaskID    TaskID
	ServiceID ServiceID
	// IngressAddr and IngressAddr6 are the task's addresses on the ingress network, when a port of it is published on the mesh.
	IngressAddr  netip.Prefix
	IngressAddr6 netip.Prefix
}

// EndpointRequest asks for an endpoint on a network.
type EndpointRequest struct {
	Network string // name or ID
	// Addr is valid when the address is given: by the user, or by the allocator for tasks.
	Addr       netip.Addr
	Addr6      netip.Addr
	MAC        MAC // the zero MAC for the one that follows from the address: see MACFor
	Aliases    []string
	DriverOpts map[string]string
}

// PortBinding publishes a container's port on the node.
type PortBinding struct {
	Protocol Protocol
	Target   uint16
	HostIP   netip.Addr // invalid or unspecified: every address of the node
	// HostPort is 0 for one of the node's choice; HostPortEnd > HostPort for any of a range.
	HostPort    uint16
	HostPortEnd uint16
}

// Sandbox is what a container got.
type Sandbox struct {
	// Netns is the path of the network namespace; empty for mode host.
	Netns string
	// Files to be mounted at /etc/resolv.conf, /etc/hosts and /etc/hostname.
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
	Interface  string // in the container
	Addr       netip.Prefix
	Gateway    netip.Addr   // invalid if the network is internal or an overlay
	Addr6      netip.Prefix // invalid on a network without IPv6
	Gateway6   netip.Addr   // as Gateway
	MAC        MAC
	Aliases    []string
	DNSNames   []string
	DriverOpts map[string]string
}
