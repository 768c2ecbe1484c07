// Package wireguard controls WireGuard interfaces, the kernel's and those of a process of our own. It reads and writes an interface's keys and peers; it
// does not make the interface, except in that process (Main), which also carries its packets and serves the socket by which it is controlled.
package wireguard

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Key is a private, public or preshared key.
type Key = wgtypes.Key

// Config is all that an interface should have.
type Config struct {
	Key   Key    // private
	Port  uint16 // UDP, to listen on
	Peers []Peer
}

// Peer is another node.
type Peer struct {
	Key       Key // public
	Preshared Key
	Endpoint  netip.AddrPort // where its packets are sent to, until one arrives from elsewhere
	// Addr is its only allowed IP: the address that packets to and from it have inside the tunnel.
	Addr netip.Addr
}

// NewKey makes a private key.
func NewKey() (Key, error) { return wgtypes.GeneratePrivateKey() }

// ParseKey reads a key in base64.
func ParseKey(text string) (Key, error) { return wgtypes.ParseKey(text) }

// keepalive is after how long an idle interface sends its peers an empty packet. It also makes a new interface start a handshake with each peer at
// once: without that, peers would go on using the session keys of the interface before it.
const keepalive = 25 * time.Second

// controller reads and changes one interface: through the kernel or through the socket of a process.
type controller interface {
	device() (*wgtypes.Device, error)
	configure(wgtypes.Config) error
}

// Device is an interface.
type Device struct{ controller }

// Apply makes the interface have the config and nothing else. Peers that are as they should be are not touched: their sessions live on.
func (d Device) Apply(want Config) error {
	have, err := d.device()
	if err != nil {
		return err
	}
	if changes := difference(have, want); !empty(changes) {
		return d.configure(changes)
	}
	return nil
}

// Has tells whether the interface has the config and nothing else; false if it cannot be read. Endpoints are not compared: WireGuard itself sets them
// to where a peer was last heard from.
func (d Device) Has(want Config) bool {
	have, err := d.device()
	if err != nil {
		return false
	}
	endpoints := map[Key]*net.UDPAddr{}
	for _, p := range have.Peers {
		endpoints[p.PublicKey] = p.Endpoint
	}
	want.Peers = slices.Clone(want.Peers)
	for i, p := range want.Peers {
		if have := endpoints[p.Key]; have != nil {
			want.Peers[i].Endpoint = netip.AddrPortFrom(have.AddrPort().Addr().Unmap(), have.AddrPort().Port())
		}
	}
	return empty(difference(have, want))
}

// Handshakes is when a session key was last agreed on with each peer, by the peer's public key; the zero time for never.
func (d Device) Handshakes() (map[Key]time.Time, error) {
	have, err := d.device()
	if err != nil {
		return nil, err
	}
	out := map[Key]time.Time{}
	for _, p := range have.Peers {
		out[p.PublicKey] = p.LastHandshakeTime
	}
	return out, nil
}

func empty(c wgtypes.Config) bool {
	return c.PrivateKey == nil && c.ListenPort == nil && len(c.Peers) == 0
}

// difference is the request that makes the interface as wanted.
func difference(have *wgtypes.Device, want Config) wgtypes.Config {
	var changes wgtypes.Config
	if have.PrivateKey != want.Key {
		changes.PrivateKey = &want.Key
	}
	if port := int(want.Port); have.ListenPort != port {
		changes.ListenPort = &port
	}
	wanted := map[Key]bool{}
	for _, p := range want.Peers {
		wanted[p.Key] = true
	}
	// Peers to remove come first: an address is allowed to one peer only, and another may take it over.
	existing := map[Key]wgtypes.Peer{}
	for _, p := range have.Peers {
		existing[p.PublicKey] = p
		if !wanted[p.PublicKey] {
			changes.Peers = append(changes.Peers, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true})
		}
	}
	for _, p := range want.Peers {
		if h, ok := existing[p.Key]; !ok || !p.matches(h) {
			changes.Peers = append(changes.Peers, p.config())
		}
	}
	return changes
}

func (p Peer) config() wgtypes.PeerConfig {
	interval := keepalive
	return wgtypes.PeerConfig{PublicKey: p.Key, PresharedKey: &p.Preshared, Endpoint: net.UDPAddrFromAddrPort(p.Endpoint),
		PersistentKeepaliveInterval: &interval, ReplaceAllowedIPs: true, AllowedIPs: []net.IPNet{hostNet(p.Addr)}}
}

// matches tells whether the interface's peer is as this one should be.
func (p Peer) matches(h wgtypes.Peer) bool {
	return h.PresharedKey == p.Preshared && h.Endpoint != nil && h.Endpoint.String() == p.Endpoint.String() && h.PersistentKeepaliveInterval == keepalive &&
		slices.EqualFunc(h.AllowedIPs, []net.IPNet{hostNet(p.Addr)}, func(a, b net.IPNet) bool { return a.String() == b.String() })
}

func hostNet(a netip.Addr) net.IPNet {
	return net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// errNoAnswer is a process that closes the connection before its answer is complete.
var errNoAnswer = errors.New("the process does not answer")
