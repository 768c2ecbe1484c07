package config

import (
	"net"
	"net/netip"
	"testing"
)

func TestParseMAC(t *testing.T) {
	for _, c := range []struct {
		text string
		want MAC
		ok   bool
	}{
		{"02:42:ac:1e:00:02", MAC{2, 0x42, 0xac, 0x1e, 0, 2}, true},
		{"02-42-AC-1E-00-02", MAC{2, 0x42, 0xac, 0x1e, 0, 2}, true},
		{"", MAC{}, false},
		{"02:42:ac:1e:00", MAC{}, false},
		{"02:42:ac:1e:00:02:00:01", MAC{}, false}, // EUI-64
	} {
		got, err := ParseMAC(c.text)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("ParseMAC(%q) = %s, %v", c.text, got, err)
		}
	}
}

func TestMACForIsDockers(t *testing.T) {
	if got := MACFor(netip.AddrFrom4([4]byte{172, 30, 0, 2})); got.String() != "02:42:ac:1e:00:02" || MACFrom(got.HardwareAddr()) != got {
		t.Errorf("got %s", got)
	}
	if got := MACFor(netip.IPv6Loopback()); got != (MAC{}) || got.HardwareAddr() != nil || got.String() != "" {
		t.Errorf("an IPv6 address has MAC %s", got)
	}
	if got := MACFrom(net.HardwareAddr{1, 2}); got != (MAC{}) {
		t.Errorf("two bytes are MAC %s", got)
	}
}
