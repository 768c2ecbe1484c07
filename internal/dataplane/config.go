package dataplane

import (
	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/encryption"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/overlay"
)

// The vocabulary that a caller writes a Config in. Package config has the types with their fields.
type (
	// Config is all that one node wants of its kernel.
	Config = config.Config
	// Bridge is a Linux bridge in the node's namespace.
	Bridge = config.Bridge
	// Overlay is one network of the cluster on this node.
	Overlay = config.Overlay
	// Remote says behind which node an address is.
	Remote = config.Remote
	// Remotes are the endpoints on other nodes, by address.
	Remotes = config.Remotes
	// WireGuard is the node's one WireGuard interface.
	WireGuard = config.WireGuard
	// Sandbox is a container's network namespace.
	Sandbox = config.Sandbox
	// Endpoint is an interface in a sandbox.
	Endpoint = config.Endpoint
	// VIP is a service's virtual address on one network.
	VIP = config.VIP
	// Services are virtual addresses.
	Services = config.Services
	// Port is a published port of the node.
	Port = config.Port
	// DirectPort is a port of a container which is reached at the container's own address.
	DirectPort = config.DirectPort
	// Link is a port of a container that one other container on its bridge may connect to.
	Link = config.Link
	// Backend is where connections to a port go.
	Backend = config.Backend
	// PortKey is a port of the node.
	PortKey = config.PortKey
	// MeshPort is where connections to a port of the routing mesh go, and who may make them.
	MeshPort = config.MeshPort
	// MeshPorts are the ports of the routing mesh.
	MeshPorts = config.MeshPorts
	// Ingress is the node's part in the routing mesh.
	Ingress = config.Ingress
	// IngressPeer is another node of the mesh.
	IngressPeer = config.IngressPeer
	// NextHops are host routes: by destination, the gateway that it is reached through.
	NextHops = config.NextHops
)

// WireGuardProcess says how WireGuard is run where the kernel has none.
type WireGuardProcess = encryption.Process

// OverlayNamespace is the name of an overlay network's namespace among those of the Plane's directory.
func OverlayNamespace(id string) string { return overlay.Namespace(id) }

// IPv6 tells whether the kernel has IPv6.
func IPv6() bool { return netns.HasIPv6() }
