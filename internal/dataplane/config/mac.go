package config

import (
	"fmt"
	"net"
	"net/netip"
)

// MAC is an Ethernet hardware address. It is an array and not a net.HardwareAddr because it is compared and stands in the values of persistent
// maps, which must be comparable. The zero MAC means that none was given.
type MAC [6]byte

// ParseMAC reads an address like "02:42:0a:00:00:02", in any notation that net.ParseMAC knows. It is an error if the address is not six bytes
// long: an InfiniBand or EUI-64 address fits no interface that is made here.
func ParseMAC(text string) (MAC, error) {
	hw, err := net.ParseMAC(text)
	if err != nil {
		return MAC{}, fmt.Errorf("read hardware address: %w", err)
	}
	if len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("read hardware address %s: it has %d bytes, not 6", text, len(hw))
	}
	return MAC(hw), nil
}

// MACFor derives a hardware address from an IPv4 address as Docker does: 02:42 and the four bytes. It is the zero MAC for any other address.
func MACFor(addr netip.Addr) MAC {
	if !addr.Is4() {
		return MAC{}
	}
	b := addr.As4()
	return MAC{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// MACFrom copies a kernel interface's address. It is the zero MAC if that is not six bytes long.
func MACFrom(hw net.HardwareAddr) MAC {
	if len(hw) != len(MAC{}) {
		return MAC{}
	}
	return MAC(hw)
}

// HardwareAddr is the address as package net and netlink take it; nil, which leaves the choice to the kernel, for the zero MAC.
func (m MAC) HardwareAddr() net.HardwareAddr {
	if m == (MAC{}) {
		return nil
	}
	return net.HardwareAddr(m[:])
}

// String writes the address in lower case with colons; empty for the zero MAC.
func (m MAC) String() string { return m.HardwareAddr().String() }
