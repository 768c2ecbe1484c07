package network

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	// wireguardOverhead is what WireGuard over IPv4 adds to a packet, and wireOverhead6 over IPv6; vxlanOverhead is what VXLAN adds inside.
	wireguardOverhead, wireguardOverhead6 = 60, 80
	vxlanOverhead                         = 50
)

// loadKey is the private key in the file, made if there is none. It lasts until the machine restarts.
func loadKey(path string) (wireguard.Key, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		key, err := wireguard.ParseKey(strings.TrimSpace(string(text)))
		if err != nil {
			return key, fmt.Errorf("read %s: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return wireguard.Key{}, err
	}
	key, err := wireguard.NewKey()
	if err != nil {
		return key, err
	}
	return key, os.WriteFile(path, []byte(key.String()+"\n"), 0o600)
}

// TunnelKey is the public key by which other nodes encrypt what they send here.
func (n *Networks) TunnelKey() string { return n.tunnelKey.PublicKey().String() }

// wireguardPort is next to that of the overlays.
func (n *Networks) wireguardPort() uint16 { return n.tunnelPort() + 1 }

// addWireGuard adds the WireGuard device to the config. It reports false while the node has no tunnel address: encrypted networks are then left out.
func (n *Networks) addWireGuard(c *dataplane.Config, self shoal.Peer) bool {
	if self.TunnelAddr.IsValid() && c.WireGuard == nil {
		c.WireGuard = n.planWireGuard(self)
	}
	return self.TunnelAddr.IsValid()
}

// encryptedOverlayMTU is the MTU in bytes of an overlay whose VXLAN packets travel through WireGuard.
func (n *Networks) encryptedOverlayMTU(self shoal.Peer) int {
	return n.wireguardMTU(self) - vxlanOverhead
}

func (n *Networks) wireguardMTU(self shoal.Peer) int {
	overhead := wireguardOverhead
	if self.DataAddr.Is6() {
		overhead = wireguardOverhead6
	}
	return n.plane.PathMTU(self.DataAddr) - overhead
}

// planWireGuard is the WireGuard device with a peer for each node that shares an encrypted network with this one; nil until the table has the cluster's preshared secret.
func (n *Networks) planWireGuard(self shoal.Peer) *dataplane.WireGuard {
	var secret wireguard.Key
	if copy(secret[:], n.table.TunnelSecret) < len(secret) {
		return nil
	}
	w := &dataplane.WireGuard{Addr: self.TunnelAddr, Range: shoal.TunnelRange(), MTU: n.wireguardMTU(self),
		Config: wireguard.Config{Key: n.tunnelKey, Port: n.wireguardPort()}}
	for _, p := range n.encryptedPeers() {
		key, err := wireguard.ParseKey(p.TunnelKey)
		if err != nil {
			n.log.Warn("peer has no valid key for encrypted networks, it is sent nothing", "node", p.NodeID, "err", err)
			continue
		}
		w.Peers = append(w.Peers, wireguard.Peer{Key: key, Preshared: secret, Endpoint: netip.AddrPortFrom(p.DataAddr, n.wireguardPort()), Addr: p.TunnelAddr})
	}
	return w
}

// encryptedPeers is the other nodes with endpoints on this node's encrypted networks, in an order that does not change.
func (d *directory) encryptedPeers() []shoal.Peer {
	mesh := d.table.Networks[d.ingressNetworkID]
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

// vtep is where a network's packets for a node go; invalid for nowhere.
func (d *directory) vtep(network shoal.NetworkID, p shoal.Peer) netip.Addr {
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
func (d *directory) countEncrypted(e shoal.Endpoint, change int) {
	net := d.table.Networks[e.NetworkID]
	if !net.Encrypted() {
		return
	}
	if d.encryptedEndpoints[e.NodeID] += change; d.encryptedEndpoints[e.NodeID] == 0 {
		delete(d.encryptedEndpoints, e.NodeID)
	}
}

// checkEncryption says what encrypts traffic, and adds to the peers when a key was last agreed on with each.
func (n *Networks) checkEncryption(d *shoal.Diagnosis) {
	what, handshakes, err := n.plane.Encryption()
	d.Encryption = what
	if err != nil {
		d.Problems = append(d.Problems, "WireGuard cannot be asked: "+err.Error())
	}
	n.mu.Lock()
	encryptedEndpoints := map[shoal.NodeID]shoal.Peer{}
	for _, p := range n.encryptedPeers() {
		encryptedEndpoints[p.NodeID] = p
	}
	n.mu.Unlock()
	for i := range d.Peers {
		p := &d.Peers[i]
		key, err := wireguard.ParseKey(encryptedEndpoints[p.NodeID].TunnelKey)
		if err == nil && what != "" {
			p.Encrypted, p.Handshake = true, handshakes[key]
		}
	}
}

// maxKeyAge is WireGuard's Reject-After-Time: the age at which it stops using a session key.
const maxKeyAge = 3 * time.Minute

func encryptionProblems(p shoal.PeerDiagnosis, now time.Time) []string {
	if !p.Encrypted || now.Sub(p.Handshake) < maxKeyAge {
		return nil
	}
	return []string{fmt.Sprintf("no key for encrypted networks was agreed on with node %s in the last %v: is the UDP port after that of VXLAN open between the nodes?",
		p.Hostname, maxKeyAge)}
}
