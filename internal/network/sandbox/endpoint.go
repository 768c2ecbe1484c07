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
	Parent  string // for macvlan, an interface of the node
	// Network is the overlay's definition, by which the overlay stays up as long as it has the endpoint; nil for others.
	Network *shoal.Network
	// Attachment is the task that stands for a plain container on a cluster network; empty for a task's container.
	Attachment shoal.TaskID
	Aliases    []string // as asked for
}

// NewEndpoint makes an endpoint for the sandbox, with the first free interface name. The caller says what it is on and adds it to Endpoints.
func (sb *Sandbox) NewEndpoint(net shoal.Network, addr, addr6 netip.Prefix, req shoal.EndpointRequest) *Endpoint {
	e := &Endpoint{Aliases: req.Aliases, Info: shoal.EndpointInfo{Network: net.Spec.Name, NetworkID: net.ID, EndpointID: shoal.NewLocalID(),
		Interface: sb.Endpoints.freeInterface(), Addr: addr, Addr6: addr6, MAC: cmp.Or(req.MAC, shoal.MACFor(addr.Addr())),
		Aliases: req.Aliases, DriverOpts: req.DriverOpts}}
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
	if e.Parent != "" {
		return shoal.DriverMacvlan
	}
	return shoal.DriverBridge
}

// Endpoints are those of one sandbox, in the order in which they were attached.
type Endpoints []*Endpoint

func (es Endpoints) freeInterface() string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(es, func(e *Endpoint) bool { return e.Info.Interface == name }) {
			return name
		}
	}
}

// UseResolver tells whether a sandbox with these endpoints gets the embedded resolver. As in Docker, all do except those on the default bridge only.
func (es Endpoints) UseResolver() bool {
	return slices.ContainsFunc(es, func(e *Endpoint) bool { return e.Info.Network != shoal.DefaultBridgeName })
}

// NeedGatewayBridge tells whether the endpoints need another one on the gateway bridge, as overlays that are not internal have no default route.
func (es Endpoints) NeedGatewayBridge() bool {
	return slices.ContainsFunc(es, func(e *Endpoint) bool { return e.Network != nil && !e.Network.Spec.Internal })
}

// DefaultRoute is the endpoint of the default route, nil if there is none.
func (es Endpoints) DefaultRoute() *Endpoint {
	for _, e := range es {
		if e.OnGatewayBridge() {
			return e
		}
	}
	for _, e := range es {
		if (e.Bridge != "" || e.Parent != "") && e.Info.Gateway.IsValid() {
			return e
		}
	}
	return nil
}
