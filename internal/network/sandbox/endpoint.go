package sandbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Endpoint is an interface of a sandbox. At most one of Bridge, Overlay and Parent is set; none is for the interface that carries the ingress
// address.
type Endpoint struct {
	Info    shoal.EndpointInfo
	Bridge  string // the name of a bridge of the node
	Overlay string // the ID of a network of the cluster
	Parent  string // for macvlan and ipvlan, an interface of the node
	// IPvlan is how an ipvlan interface behaves; nil for others.
	IPvlan *shoal.IPvlan `json:",omitempty"`
	// DefaultDevice tells of an interface through which default routes lead without a gateway.
	DefaultDevice bool `json:",omitempty"`
	// Network is the overlay's definition, by which the overlay stays up as long as it has the endpoint; nil for others.
	Network *shoal.Network
	// Attachment is the task that stands for a plain container on a cluster network; empty for a task's container.
	Attachment shoal.TaskID
	Aliases    []string // as asked for
}

// NewEndpoint makes an endpoint for the sandbox, with the first free interface name. The caller says what it is on and adds it to Endpoints.
func (sb *Sandbox) NewEndpoint(net shoal.Network, addr, addr6 netip.Prefix, req shoal.EndpointRequest) *Endpoint {
	e := &Endpoint{Aliases: req.Aliases, Info: shoal.EndpointInfo{Network: net.Spec.Name, NetworkID: net.ID, EndpointID: shoal.NewLocalID(),
		Interface: sb.Endpoints.freeInterface(), Addr: addr, Addr6: addr6, MAC: cmp.Or(req.MAC, shoal.MACFor(addr.Addr()), shoal.MACFor6(addr6.Addr())),
		Aliases: req.Aliases, DriverOpts: req.DriverOpts, Links: req.Links, LinkLocal: req.LinkLocal, GwPriority: req.GwPriority}}
	if name := req.DriverOpts[shoal.OptionInterfaceName]; name != "" {
		e.Info.Interface = name
	}
	if net.Spec.Name != shoal.DefaultBridgeName {
		e.Info.DNSNames = dnsNames(sb.Spec, req.Aliases)
	}
	return e
}

func dnsNames(spec shoal.SandboxSpec, aliases []string) []string {
	var names []string
	for _, name := range append(append([]string{spec.Name}, aliases...), Namespace(spec.ContainerID), spec.Hostname) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// OnGatewayBridge tells whether this is the endpoint by which a task reaches the outside.
func (e *Endpoint) OnGatewayBridge() bool { return e.Info.Network == shoal.GwbridgeName }

// HasServiceDiscovery tells whether containers find each other by name on the endpoint's network.
func (e *Endpoint) HasServiceDiscovery() bool {
	return !e.OnGatewayBridge() && e.Info.Network != shoal.DefaultBridgeName && (e.Overlay != "" || e.Bridge != "" || e.Parent != "")
}

// IsOn tells whether the endpoint is on the network with the name or ID.
func (e *Endpoint) IsOn(network string) bool {
	return e.Info.Network == network || string(e.Info.NetworkID) == network
}

// Driver is the driver of the endpoint's network.
func (e *Endpoint) Driver() string {
	if e.Overlay != "" {
		return shoal.DriverOverlay
	}
	if e.IPvlan != nil {
		return shoal.DriverIPvlan
	}
	if e.Parent != "" {
		return shoal.DriverMacvlan
	}
	return shoal.DriverBridge
}

// Endpoints are those of one sandbox, in the order in which they were attached.
type Endpoints []*Endpoint

func (es Endpoints) freeInterface() string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !es.HasInterface(name) {
			return name
		}
	}
}

// HasInterface tells whether one of the endpoints has an interface of the name.
func (es Endpoints) HasInterface(name string) bool {
	return slices.ContainsFunc(es, func(e *Endpoint) bool { return e.Info.Interface == name })
}

// UseResolver tells whether a sandbox with these endpoints gets the embedded resolver. As in Docker, all do except those on the default bridge only.
func (es Endpoints) UseResolver() bool {
	return slices.ContainsFunc(es, func(e *Endpoint) bool { return e.Info.Network != shoal.DefaultBridgeName })
}

// NeedGatewayBridge tells whether the endpoints need another one on the gateway bridge, as overlays that are not internal have no default route.
func (es Endpoints) NeedGatewayBridge() bool {
	return slices.ContainsFunc(es, func(e *Endpoint) bool { return e.Network != nil && !e.Network.Spec.Internal })
}

// DefaultRoutes are the endpoints of the default routes of IPv4 and IPv6, nil where there is none. As in Docker, the highest priority wins, then an
// endpoint with both families, then the first by the network's name; the gateway bridge comes before its equals.
func (es Endpoints) DefaultRoutes() (route4, route6 *Endpoint) {
	sorted := slices.SortedFunc(slices.Values(es), func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(b.Info.GwPriority, a.Info.GwPriority), compareBools(b.OnGatewayBridge(), a.OnGatewayBridge()),
			cmp.Compare(b.defaultRoutes(), a.defaultRoutes()), cmp.Compare(a.Info.Network, b.Info.Network))
	})
	for _, e := range sorted {
		if route4 == nil && e.hasDefaultRoute(e.Info.Addr, e.Info.Gateway) {
			route4 = e
		}
		if route6 == nil && e.hasDefaultRoute(e.Info.Addr6, e.Info.Gateway6) {
			route6 = e
		}
	}
	return route4, route6
}

// hasDefaultRoute tells whether a default route can lead through the endpoint, given its address and gateway of the family.
func (e *Endpoint) hasDefaultRoute(addr netip.Prefix, gateway netip.Addr) bool {
	return (e.Bridge != "" || e.Parent != "") && addr.IsValid() && (gateway.IsValid() || e.DefaultDevice)
}

// defaultRoutes is for how many families a default route can lead through the endpoint.
func (e *Endpoint) defaultRoutes() int {
	n := 0
	if e.hasDefaultRoute(e.Info.Addr, e.Info.Gateway) {
		n++
	}
	if e.hasDefaultRoute(e.Info.Addr6, e.Info.Gateway6) {
		n++
	}
	return n
}

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
