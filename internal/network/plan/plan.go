// Package plan derives the config of the data plane: of the node's own networks, the cluster's table and the containers' sandboxes it makes
// one dataplane.Config. It writes nothing, and the same values give the same config.
package plan

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/network/directory"
	"github.com/shoal-dev/shoal/internal/network/local"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Planner is what a config is derived from. All of it is required, and guarded by whoever calls Config.
type Planner struct {
	Log       *slog.Logger
	Local     *local.Networks
	Directory *directory.Directory
	Sandboxes *sandbox.Set
	// Key is the node's own for encrypted networks.
	Key wireguard.Key
	// DirectRouting lets published ports be reached from outside at containers' own addresses too.
	DirectRouting bool
	// IPv6 tells whether the kernel has it.
	IPv6 bool
	// PathMTU is the MTU in bytes of the interface that has the address of the data path.
	PathMTU func(local netip.Addr) int
}

// Config is all that the node wants of its kernel now.
func (p *Planner) Config() *dataplane.Config {
	c := &dataplane.Config{Bridges: map[string]*dataplane.Bridge{}, Overlays: map[string]*dataplane.Overlay{}, Sandboxes: map[string]*dataplane.Sandbox{}}
	for _, l := range p.Local.All() {
		switch {
		case l.IsBridge():
			c.Bridges[l.Bridge()] = planBridge(l)
		case l.OwnParent() != "":
			c.Bridges[l.OwnParent()] = &dataplane.Bridge{Name: l.OwnParent(), MTU: l.MTU(), Internal: true}
		}
	}
	p.planOverlays(c)
	for _, sb := range p.Sandboxes.All() {
		if sb.Active {
			c.Sandboxes[sb.Namespace()] = p.planSandbox(sb, c)
			ports, direct := p.publishedPorts(sb)
			c.Ports, c.Direct, c.Links = append(c.Ports, ports...), append(c.Direct, direct...), append(c.Links, p.links(sb)...)
		}
	}
	p.planIngress(c)
	slices.SortFunc(c.Ports, func(a, b dataplane.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), a.HostIP.Compare(b.HostIP))
	})
	slices.SortFunc(c.Direct, func(a, b dataplane.DirectPort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.From, b.From))
	})
	slices.SortFunc(c.Links, func(a, b dataplane.Link) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return c
}

// planBridge is the bridge of a network.
func planBridge(l *local.Network) *dataplane.Bridge {
	b := &dataplane.Bridge{Name: l.Bridge(), Gateway: l.Gateway(), Gateway6: l.Gateway6(), MTU: l.MTU(), Given: l.Given(), Internal: l.Spec.Internal,
		NoICC: !l.ICC(), Masquerade: l.Masquerade(), NoAddr: l.NoIPv4Address()}
	b.Mode, b.Mode6 = l.Modes()
	b.Source, b.Source6 = l.Sources()
	return b
}

// planOverlays adds the cluster's networks, except for the routing mesh's.
func (p *Planner) planOverlays(c *dataplane.Config) {
	self := p.Directory.Self()
	for id, net := range p.clusterNetworks() {
		if net.Spec.Ingress || net.VNI == 0 || !self.DataAddr.IsValid() {
			continue
		}
		mtu, _ := strconv.Atoi(net.Spec.Options[shoal.OptionMTU]) // 0, the default, if it is not set
		o := &dataplane.Overlay{ID: string(id), VNI: net.VNI, Port: p.Directory.DataPathPort(), Local: self.DataAddr, MTU: mtu, Remotes: p.Directory.Remotes(id)}
		if net.Encrypted() {
			if !p.addWireGuard(c, self) {
				continue
			}
			o.Encrypted, o.Local, o.MTU = true, self.TunnelAddr, cmp.Or(mtu, p.encryptedOverlayMTU(self))
		}
		c.Overlays[string(id)] = o
	}
}

// clusterNetworks is the table's networks, and those of endpoints that still exist. The latter are needed when attachments come
// and go quickly: a table without the network may arrive although another attachment to it has been granted meanwhile.
func (p *Planner) clusterNetworks() map[shoal.NetworkID]shoal.Network {
	all := maps.Clone(p.Directory.Table().Networks)
	taken := map[uint32]bool{}
	for _, net := range all {
		taken[net.VNI] = true
	}
	for _, sb := range p.Sandboxes.All() {
		for _, e := range sb.Endpoints {
			if e.Network == nil || taken[e.Network.VNI] {
				continue // the table has the network, or has given its VNI to another one
			}
			if all == nil {
				all = map[shoal.NetworkID]shoal.Network{}
			}
			all[shoal.NetworkID(e.Overlay)], taken[e.Network.VNI] = *e.Network, true
		}
	}
	return all
}
