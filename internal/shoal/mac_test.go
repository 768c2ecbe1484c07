package shoal

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestParseMAC(t *testing.T) {
	want := MACFrom(net.HardwareAddr{2, 0x42, 0xac, 0x1e, 0, 2})
	for _, c := range []struct {
		text string
		want MAC
		ok   bool
	}{
		{"02:42:ac:1e:00:02", want, true},
		{"02-42-AC-1E-00-02", want, true},
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
	if got := MACFor(netip.IPv6Loopback()); !got.IsZero() || got.HardwareAddr() != nil || got.String() != "" {
		t.Errorf("an IPv6 address has MAC %s", got)
	}
	if got := MACFrom(net.HardwareAddr{1, 2}); got != (MAC{}) {
		t.Errorf("two bytes are MAC %s", got)
	}
}

// Records on disk and tables of managers hold MACs as text. What is no address must not make the rest unreadable, nor be lost.
func TestMACsAreTextInJSON(t *testing.T) {
	for text, want := range map[string]string{ // to an error's text; empty for none
		"":                        "",
		"02:42:0a:00:00:05":       "",
		"nonsense":                "read hardware address: address nonsense: invalid MAC address",
		"02:42:ac:1e:00:02:00:01": "read hardware address 02:42:ac:1e:00:02:00:01: it has 8 bytes, not 6",
	} {
		before := `{"MAC":"` + text + `","Aliases":null}`
		var e struct {
			MAC     MAC
			Aliases []string
		}
		if err := json.Unmarshal([]byte(before), &e); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		after, err := json.Marshal(e)
		if err != nil || string(after) != before {
			t.Errorf("%s became %s, %v", before, after, err)
		}
		got := ""
		if err := e.MAC.Err(); err != nil {
			got = err.Error()
		}
		if got != want || e.MAC.String() != text || e.MAC.IsZero() != (text == "") || (e.MAC.HardwareAddr() == nil) != (text == "" || want != "") {
			t.Errorf("%q: %+v, error %q", text, e.MAC, got)
		}
		if other := DecodeMAC(strings.ToUpper(text)); want == "" && other != e.MAC {
			t.Errorf("%q is another MAC in capitals", text)
		}
	}
}
