package directory

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// EncryptedPeers is the other nodes with endpoints on this node's encrypted networks, in an order that does not change.
func (d *Directory) EncryptedPeers() []shoal.Peer {
	mesh := d.table.Networks[d.ingressID]
	var out []shoal.Peer
	for _, p := range slices.SortedFunc(maps.Values(d.table.Peers), func(a, b shoal.Peer) int { return cmp.Compare(a.NodeID, b.NodeID) }) {
		needed := d.encryptedEndpoints[p.NodeID] > 0 || mesh.Encrypted() && p.IngressAddr.IsValid()
		if needed && p.NodeID != d.table.NodeID && canEncrypt(p) {
			out = append(out, p)
		}
	}
	return out
}

// canEncrypt tells whether traffic to the node can be encrypted.
func canEncrypt(p shoal.Peer) bool {
	return p.TunnelKey != "" && p.TunnelAddr.IsValid() && p.DataAddr.IsValid()
}

// VTEP is where a network's packets for a node go; invalid for nowhere.
func (d *Directory) VTEP(network shoal.NetworkID, p shoal.Peer) netip.Addr {
	net := d.table.Networks[network]
	switch {
	case !net.Encrypted():
		return p.DataAddr
	case canEncrypt(p):
		return p.TunnelAddr
	default:
		return netip.Addr{}
	}
}

// countEncrypted follows an endpoint that comes (1) or goes (-1).
func (d *Directory) countEncrypted(e shoal.Endpoint, change int) {
	net := d.table.Networks[e.NetworkID]
	if !net.Encrypted() {
		return
	}
	if d.encryptedEndpoints[e.NodeID] += change; d.encryptedEndpoints[e.NodeID] == 0 {
		delete(d.encryptedEndpoints, e.NodeID)
	}
}
