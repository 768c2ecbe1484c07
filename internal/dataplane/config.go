package dataplane

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/encryption"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/overlay"
)

// What a caller writes a Config in. Package config says what each of these means.
type (
	Config      = config.Config
	Bridge      = config.Bridge
	Overlay     = config.Overlay
	WireGuard   = config.WireGuard
	Remote      = config.Remote
	Remotes     = config.Remotes
	Sandbox     = config.Sandbox
	Endpoint    = config.Endpoint
	MAC         = config.MAC
	VIP         = config.VIP
	Services    = config.Services
	Port        = config.Port
	Backend     = config.Backend
	PortKey     = config.PortKey
	MeshPort    = config.MeshPort
	MeshPorts   = config.MeshPorts
	Ingress     = config.Ingress
	IngressPeer = config.IngressPeer
	NextHops    = config.NextHops
)

// WireGuardProcess says how WireGuard is run where the kernel has none.
type WireGuardProcess = encryption.Process

// ParseMAC reads a MAC: see config.ParseMAC.
func ParseMAC(text string) (MAC, error) { return config.ParseMAC(text) }

// MACFor derives a MAC from an IPv4 address as Docker does: see config.MACFor.
func MACFor(addr netip.Addr) MAC { return config.MACFor(addr) }

// OverlayNamespace is the name of an overlay network's namespace among those of the Plane's directory.
func OverlayNamespace(id string) string { return overlay.Namespace(id) }

// IPv6 tells whether the kernel has IPv6.
func IPv6() bool { return netns.HasIPv6() }
