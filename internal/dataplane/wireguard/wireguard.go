// Package wireguard sets up WireGuard interfaces, the kernel's or those of a process of our own. It reads and writes an interface's
// keys and peers; the process (Main) makes its interface, carries its packets, and serves a socket.
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

// Config is all that an interface shall have.
type Config struct {
	Key   Key // private
	Port  uint16
	Peers []Peer
}

// Peer is another node.
type Peer struct {
	Key       Key // public
	Preshared Key
	Endpoint  netip.AddrPort
	// Addr is the one address that packets to and from the peer have inside.
	Addr netip.Addr
}

// NewKey makes a private key.
func NewKey() (Key, error) { return wgtypes.GeneratePrivateKey() }

// ParseKey reads a key in base64.
func ParseKey(text string) (Key, error) { return wgtypes.ParseKey(text) }

// keepalive is how often peers that have nothing to say say so. That it is set makes a new interface agree on a key with its peers at
// once, who else would go on to use one that it does not have.
const keepalive = 25 * time.Second

// control is the way to an interface.
type control interface {
	device() (*wgtypes.Device, error)
	configure(wgtypes.Config) error
}

// Device is an interface.
type Device struct{ control }

// Apply makes the interface have the config and nothing else. What is as it should be is not touched: sessions live on.
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

// Has tells whether the interface has the config and nothing else, save that peers may have been heard from elsewhere.
func (d Device) Has(want Config) bool {
	have, err := d.device()
	if err != nil {
		return false
	}
	elsewhere := map[Key]*net.UDPAddr{}
	for _, p := range have.Peers {
		elsewhere[p.PublicKey] = p.Endpoint
	}
	want.Peers = slices.Clone(want.Peers)
	for i, p := range want.Peers {
		if at := elsewhere[p.Key]; at != nil {
			want.Peers[i].Endpoint = netip.AddrPortFrom(at.AddrPort().Addr().Unmap(), at.AddrPort().Port())
		}
	}
	return empty(difference(have, want))
}

// Handshakes is when keys were last agreed on, by public key; the zero time for never.
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

// difference is what turns the interface into the wanted one.
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
	// Peers that leave come first: another may take over their address.
	there := map[Key]wgtypes.Peer{}
	for _, p := range have.Peers {
		there[p.PublicKey] = p
		if !wanted[p.PublicKey] {
			changes.Peers = append(changes.Peers, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true})
		}
	}
	for _, p := range want.Peers {
		if h, ok := there[p.Key]; !ok || !p.is(h) {
			changes.Peers = append(changes.Peers, p.config())
		}
	}
	return changes
}

func (p Peer) config() wgtypes.PeerConfig {
	every := keepalive
	return wgtypes.PeerConfig{PublicKey: p.Key, PresharedKey: &p.Preshared, Endpoint: net.UDPAddrFromAddrPort(p.Endpoint),
		PersistentKeepaliveInterval: &every, ReplaceAllowedIPs: true, AllowedIPs: []net.IPNet{single(p.Addr)}}
}

// is tells whether the interface's peer is this one.
func (p Peer) is(h wgtypes.Peer) bool {
	return h.PresharedKey == p.Preshared && h.Endpoint != nil && h.Endpoint.String() == p.Endpoint.String() && h.PersistentKeepaliveInterval == keepalive &&
		slices.EqualFunc(h.AllowedIPs, []net.IPNet{single(p.Addr)}, func(a, b net.IPNet) bool { return a.String() == b.String() })
}

func single(a netip.Addr) net.IPNet {
	return net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// errMute is a process that does not answer.
var errMute = errors.New("the process does not answer")
