package shoal

import (
	"fmt"
	"net"
	"net/netip"
)

// MAC is an Ethernet hardware address of six bytes. Unlike net.HardwareAddr it can be compared and be part of a map's key. The zero MAC
// means that none was given; its text is empty.
//
// Decoding text never fails, so that one bad address does not make a record or a whole table unreadable: a MAC that was decoded from text
// that is no address keeps the text, writes it again as it was, and says by Err what is wrong with it. It is not the zero MAC, but has no
// HardwareAddr.
type MAC struct {
	bytes      [6]byte
	unreadable string // the text that is no address; bytes is zero then
}

// ParseMAC reads an address like "02:42:0a:00:00:02", in any notation that net.ParseMAC knows. It is an error if the text is empty, or if
// the address is not six bytes long: an InfiniBand or EUI-64 address fits no interface that is made here.
func ParseMAC(text string) (MAC, error) {
	hw, err := net.ParseMAC(text)
	if err != nil {
		return MAC{}, fmt.Errorf("read hardware address: %w", err)
	}
	if len(hw) != len(MAC{}.bytes) {
		return MAC{}, fmt.Errorf("read hardware address %s: it has %d bytes, not 6", text, len(hw))
	}
	return MAC{bytes: [6]byte(hw)}, nil
}

// DecodeMAC reads an address as UnmarshalText does: it never fails, and the empty text is the zero MAC. Err of the result says whether the
// text was an address.
func DecodeMAC(text string) MAC {
	if text == "" {
		return MAC{}
	}
	m, err := ParseMAC(text)
	if err != nil {
		return MAC{unreadable: text}
	}
	return m
}

// MACFor derives a hardware address from an IPv4 address as Docker does: 02:42 and the four bytes. It is the zero MAC for any other address.
func MACFor(addr netip.Addr) MAC {
	if !addr.Is4() {
		return MAC{}
	}
	b := addr.As4()
	return MAC{bytes: [6]byte{0x02, 0x42, b[0], b[1], b[2], b[3]}}
}

// MACFor6 derives a hardware address from the last four bytes of an IPv6 address, for an interface that has no IPv4 address: 02:43 and the bytes. It is
// the zero MAC for any other address.
func MACFor6(addr netip.Addr) MAC {
	if !addr.Is6() {
		return MAC{}
	}
	b := addr.As16()
	return MAC{bytes: [6]byte{0x02, 0x43, b[12], b[13], b[14], b[15]}}
}

// MACFrom copies a kernel interface's address. It is the zero MAC if that is not six bytes long.
func MACFrom(hw net.HardwareAddr) MAC {
	if len(hw) != len(MAC{}.bytes) {
		return MAC{}
	}
	return MAC{bytes: [6]byte(hw)}
}

// IsZero tells whether no address was given, readable or not.
func (m MAC) IsZero() bool { return m == MAC{} }

// Err says why the text that the MAC was decoded from is no address. It is nil for an address and for the zero MAC.
func (m MAC) Err() error {
	if m.unreadable == "" {
		return nil
	}
	_, err := ParseMAC(m.unreadable)
	return err
}

// HardwareAddr is the address as package net and netlink take it; nil, which leaves the choice to the kernel, if there is none.
func (m MAC) HardwareAddr() net.HardwareAddr {
	if m.bytes == [6]byte{} {
		return nil
	}
	return net.HardwareAddr(m.bytes[:])
}

// String writes the address in lower case with colons. It is empty for the zero MAC, and the text as it came for one that could not be read.
func (m MAC) String() string {
	if m.unreadable != "" {
		return m.unreadable
	}
	return m.HardwareAddr().String()
}

// MarshalText implements encoding.TextMarshaler with the text of String. It never fails.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler as DecodeMAC does. It never fails.
func (m *MAC) UnmarshalText(text []byte) error {
	*m = DecodeMAC(string(text))
	return nil
}
