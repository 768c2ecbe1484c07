package dns

import (
	"net/netip"
	"strconv"
	"strings"
)

func decimal(n uint16) string { return strconv.Itoa(int(n)) }

// reverseAddr reads "4.3.2.1.in-addr.arpa", and the 32 digits before ".ip6.arpa".
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, digit := range parts {
		n, err := strconv.ParseUint(digit, 16, 4)
		if err != nil || len(digit) != 1 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
