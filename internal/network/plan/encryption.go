package plan

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	// wireguardOverhead is what WireGuard over IPv4 adds to a packet, and wireguardOverhead6 over IPv6, in bytes; vxlanOverhead is what VXLAN
	// adds inside.
	wireguardOverhead, wireguardOverhead6 = 60, 80
	vxlanOverhead                         = 50
)

// addWireGuard adds the WireGuard device to the config. It reports false while the node has no tunnel address: encrypted networks are then left out.
func (p *Planner) addWireGuard(c *dataplane.Config, self shoal.Peer) bool {
	if self.TunnelAddr.IsValid() && c.WireGuard == nil {
		c.WireGuard = p.planWireGuard(self)
	}
	return self.TunnelAddr.IsValid()
}

// encryptedOverlayMTU is the MTU in bytes of an overlay whose VXLAN packets travel through WireGuard.
func (p *Planner) encryptedOverlayMTU(self shoal.Peer) int {
	return p.wireguardMTU(self) - vxlanOverhead
}

func (p *Planner) wireguardMTU(self shoal.Peer) int {
	overhead := wireguardOverhead
	if self.DataAddr.Is6() {
		overhead = wireguardOverhead6
	}
	return p.PathMTU(self.DataAddr) - overhead
}

// planWireGuard is the WireGuard device with a peer for each node that shares an encrypted network with this one; nil until the table has the cluster's preshared secret.
func (p *Planner) planWireGuard(self shoal.Peer) *dataplane.WireGuard {
	var secret wireguard.Key
	if copy(secret[:], p.Directory.Table().TunnelSecret) < len(secret) {
		return nil
	}
	port := p.Directory.DataPathPort() + 1 // next to that of the overlays
	w := &dataplane.WireGuard{Addr: self.TunnelAddr, Range: shoal.TunnelRange(), MTU: p.wireguardMTU(self),
		Config: wireguard.Config{Key: p.Key, Port: port}}
	for _, peer := range p.Directory.EncryptedPeers() {
		key, err := wireguard.ParseKey(peer.TunnelKey)
		if err != nil {
			p.Log.Warn("peer has no valid key for encrypted networks, it is sent nothing", "node", peer.NodeID, "err", err)
			continue
		}
		w.Peers = append(w.Peers, wireguard.Peer{Key: key, Preshared: secret, Endpoint: netip.AddrPortFrom(peer.DataAddr, port), Addr: peer.TunnelAddr})
	}
	return w
}
