package membership

import (
	"net/netip"
	"testing"
)

// A node that advertises another port than it listens on called itself there, where only others reach it, and `swarm init` timed out.
func TestANodeReachesItselfWhereItListens(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:2377": "127.0.0.1:2377", "[::]:2377": "[::1]:2377", "10.0.0.1:2377": "10.0.0.1:2377", "0.0.0.0:5000": "192.0.2.1:5000",
	} {
		s := State{AdvertiseAddr: netip.MustParseAddr("192.0.2.1"), Port: "5000", ListenAddr: netip.MustParseAddrPort(listen)}
		if got := s.reach("192.0.2.1:5000"); got != want {
			t.Errorf("listening on %s: %s, want %s", listen, got, want)
		}
		if got := s.reach("192.0.2.2:5000"); got != "192.0.2.2:5000" {
			t.Errorf("another node is called at %s", got)
		}
	}
}
