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
	// wireOverhead is what WireGuard over IPv4 adds to a packet, and wireOverhead6 over IPv6; vxlanOverhead is what VXLAN adds inside.
	wireOverhead, wireOverhead6 = 60, 80
	vxlanOverhead               = 50
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
func (n *Networks) TunnelKey() string { return n.wireKey.PublicKey().String() }

// wirePort is next to that of the overlays.
func (n *Networks) wirePort() uint16 { return n.tunnelPort() + 1 }

// addWire gives the config the wire, and tells whether networks can travel by it: until the node has its address there, they must wait.
func (n *Networks) addWire(c *dataplane.Config, self shoal.Peer) bool {
	if self.TunnelAddr.IsValid() && c.WireGuard == nil {
		c.WireGuard = n.planWire(self)
	}
	return self.TunnelAddr.IsValid()
}

// overWireMTU is the MTU of an overlay that travels by the wire.
func (n *Networks) overWireMTU(self shoal.Peer) int { return n.wireMTU(self) - vxlanOverhead }

func (n *Networks) wireMTU(self shoal.Peer) int {
	overhead := wireOverhead
	if self.DataAddr.Is6() {
		overhead = wireOverhead6
	}
	return n.plane.PathMTU(self.DataAddr) - overhead
}

// planWire is the wire to all nodes that this one shares an encrypted network with; nil while the cluster's secret is not known.
func (n *Networks) planWire(self shoal.Peer) *dataplane.WireGuard {
	var secret wireguard.Key
	if copy(secret[:], n.table.TunnelSecret) < len(secret) {
		return nil
	}
	w := &dataplane.WireGuard{Addr: self.TunnelAddr, Range: shoal.TunnelRange(), MTU: n.wireMTU(self),
		Config: wireguard.Config{Key: n.wireKey, Port: n.wirePort()}}
	for _, p := range n.wiredPeers() {
		key, err := wireguard.ParseKey(p.TunnelKey)
		if err != nil {
			n.log.Warn("peer has no valid key for encrypted networks, it is sent nothing", "node", p.NodeID, "err", err)
			continue
		}
		w.Peers = append(w.Peers, wireguard.Peer{Key: key, Preshared: secret, Endpoint: netip.AddrPortFrom(p.DataAddr, n.wirePort()), Addr: p.TunnelAddr})
	}
	return w
}

// wiredPeers is the other nodes with endpoints on this node's encrypted networks, in an order that does not change.
func (d *directory) wiredPeers() []shoal.Peer {
	mesh := d.table.Networks[d.mesh]
	var out []shoal.Peer
	for _, p := range slices.SortedFunc(maps.Values(d.table.Peers), func(a, b shoal.Peer) int { return cmp.Compare(a.NodeID, b.NodeID) }) {
		needed := d.wired[p.NodeID] > 0 || mesh.Encrypted() && p.IngressAddr.IsValid()
		if needed && p.NodeID != d.table.NodeID && reachable(p) {
			out = append(out, p)
		}
	}
	return out
}

// reachable tells whether traffic to the node can be encrypted.
func reachable(p shoal.Peer) bool {
	return p.TunnelKey != "" && p.TunnelAddr.IsValid() && p.DataAddr.IsValid()
}

// vtep is where a network's packets for a node go; invalid for nowhere.
func (d *directory) vtep(network shoal.NetworkID, p shoal.Peer) netip.Addr {
	net := d.table.Networks[network]
	switch {
	case !net.Encrypted():
		return p.DataAddr
	case reachable(p):
		return p.TunnelAddr
	default:
		return netip.Addr{}
	}
}

// countWired follows an endpoint that comes (1) or goes (-1).
func (d *directory) countWired(e shoal.Endpoint, change int) {
	net := d.table.Networks[e.NetworkID]
	if !net.Encrypted() {
		return
	}
	if d.wired[e.NodeID] += change; d.wired[e.NodeID] == 0 {
		delete(d.wired, e.NodeID)
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
	wired := map[shoal.NodeID]shoal.Peer{}
	for _, p := range n.wiredPeers() {
		wired[p.NodeID] = p
	}
	n.mu.Unlock()
	for i := range d.Peers {
		p := &d.Peers[i]
		key, err := wireguard.ParseKey(wired[p.NodeID].TunnelKey)
		if err == nil && what != "" {
			p.Encrypted, p.Handshake = true, handshakes[key]
		}
	}
}

// oldest is the age of a key at which WireGuard uses it no more.
const oldest = 3 * time.Minute

func encryptionProblems(p shoal.PeerDiagnosis, now time.Time) []string {
	if !p.Encrypted || now.Sub(p.Handshake) < oldest {
		return nil
	}
	return []string{fmt.Sprintf("no key for encrypted networks was agreed on with node %s in the last %v: is the UDP port after that of VXLAN open between the nodes?",
		p.Hostname, oldest)}
}
