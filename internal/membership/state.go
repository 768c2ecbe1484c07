package membership

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

// State is what a node remembers of its cluster besides its identity.
type State struct {
	// AdvertiseAddr and Port are where other nodes reach the node protocol.
	AdvertiseAddr netip.Addr
	// Interface is the interface that had AdvertiseAddr when the node got its place; empty if none had, as behind NAT.
	Interface string `json:",omitempty"`
	// ListenAddr is where the node serves the node protocol while it is a manager.
	ListenAddr netip.AddrPort
	Port       string // decimal
	// DataPathAddr is where the node's VXLAN packets go; not valid for AdvertiseAddr.
	DataPathAddr netip.Addr
	// Managers is where managers serve the node protocol, as last heard: "host:port".
	Managers []string
}

// PeerURL is where a manager's store member is reached: the port after that of the node protocol.
func (s State) PeerURL() (string, error) { return nextPort(s.AdvertiseAddr.String(), s.Port) }

// NodeAddr is where other nodes reach the node protocol: "host:port".
func (s State) NodeAddr() string { return net.JoinHostPort(s.AdvertiseAddr.String(), s.Port) }

// reach is where this node reaches the node protocol that is served at the address. Its own, if it advertises another port than it listens on, leads to it from
// outside only: a router or a mapped port in between may not send packets back to where they come from.
func (s State) reach(addr string) string {
	if addr != s.NodeAddr() || s.Port == strconv.Itoa(int(s.ListenAddr.Port())) {
		return addr
	}
	listen := s.ListenAddr.Addr()
	switch {
	case listen == netip.IPv6Unspecified():
		listen = netip.IPv6Loopback()
	case listen.IsUnspecified():
		listen = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(listen, s.ListenAddr.Port()).String()
}

func (m *Membership) stateFile() string { return filepath.Join(m.cfg.Dir, "state.json") }

func (m *Membership) readState() (state State, err error) {
	if err := atomicfile.ReadJSON(m.stateFile(), &state); err != nil {
		return State{}, fmt.Errorf("read cluster state: %w", err)
	}
	return state, nil
}

// stateVersion is the schema version of the record. It grows when what a field means changes.
const stateVersion = 1

func (m *Membership) saveState(state State) error {
	encoded, err := json.Marshal(state)
	if err == nil {
		err = atomicfile.Mkdir(m.cfg.Dir, 0o700)
	}
	if err == nil {
		err = atomicfile.WriteRecord[State](atomicfile.Write, m.stateFile(), encoded, stateVersion, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep cluster state: %w", err)
	}
	return nil
}
