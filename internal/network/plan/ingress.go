package plan

import (
	"net/netip"
	"slices"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// planIngress is the node's part in the routing mesh.
func (p *Planner) planIngress(c *dataplane.Config) {
	self := p.Directory.Self()
	mesh, _ := p.Directory.Ingress()
	if mesh.VNI == 0 || !self.IngressAddr.IsValid() || !self.DataAddr.IsValid() || len(mesh.IPAM) == 0 {
		return
	}
	in := &dataplane.Ingress{VNI: mesh.VNI, Port: p.Directory.DataPathPort(), Local: self.DataAddr, Addr: PrefixIn(mesh, self.IngressAddr),
		Tasks: p.Directory.MeshNextHops(), LocalTasks: p.Sandboxes.MeshTasks(), GatewayBridge: shoal.GwbridgeName}
	if l := p.Local.Find(shoal.GwbridgeName); l != nil && l.IsBridge() {
		in.GatewayBridge = l.Bridge()
	}
	if mesh.Encrypted() {
		if !p.addWireGuard(c, self) {
			return
		}
		in.Encrypted, in.Local, in.MTU = true, self.TunnelAddr, p.encryptedOverlayMTU(self)
	}
	if p.IPv6 {
		in.Addr6 = PrefixIn(mesh, self.IngressAddr6)
	}
	for _, other := range p.Directory.Table().Peers {
		vtep := p.Directory.VTEP(mesh.ID, other)
		if other.NodeID == self.NodeID || !other.IngressAddr.IsValid() || !vtep.IsValid() {
			continue
		}
		peer := dataplane.IngressPeer{Addr: other.IngressAddr, VTEP: vtep, Host: other.DataAddr}
		if in.Addr6.IsValid() && other.IngressAddr6.IsValid() {
			peer.Addr6, peer.Hosts6 = other.IngressAddr6, other.HostAddrs6
		}
		in.Peers = append(in.Peers, peer)
	}
	slices.SortFunc(in.Peers, func(a, b dataplane.IngressPeer) int { return a.Addr.Compare(b.Addr) })
	c.Ingress, c.Mesh = in, p.Directory.MeshPorts()
}

// PrefixIn is the address with the prefix length of the network's subnet that contains it; invalid if the address is.
func PrefixIn(net shoal.Network, addr netip.Addr) netip.Prefix {
	for _, s := range net.IPAM {
		if s.Subnet.Contains(addr) {
			return netip.PrefixFrom(addr, s.Subnet.Bits())
		}
	}
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, map[bool]int{true: 24, false: 64}[addr.Is4()])
}
