package local

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// othersHost is a node where another daemon has docker0.
type othersHost struct{ node }

func (othersHost) IsOthers(name string) bool { return name == "docker0" }

func TestTheDefaultBridgeFollowsTheSettings(t *testing.T) {
	prefix := netip.MustParsePrefix
	dir := t.TempDir()
	open := func(b DefaultBridge, host Host, used bool) (*Networks, error) {
		n, err := Open(Config{Dir: dir, Pools: ipam.DefaultPools(), IPv6: true, Host: host, DefaultBridge: b})
		if err != nil {
			t.Fatal(err)
		}
		return n, n.CreatePredefined(nil, func(*Network) bool { return used })
	}
	bridge := func(b DefaultBridge) *Network {
		t.Helper()
		n, err := open(b, node{}, false)
		if err != nil {
			t.Fatal(err)
		}
		return n.Find("bridge")
	}
	first := bridge(DefaultBridge{})
	if again := bridge(DefaultBridge{}); again.ID != first.ID || again.Bridge() != "docker0" || again.MTU() != 1500 || !again.ICC() || !again.Masquerade() || again.Given() {
		t.Errorf("without settings: %+v, then %+v", first.Network, again.Network)
	}
	changed := bridge(DefaultBridge{MTU: 1400, NoICC: true, NoMasq: true, HostIP: netip.MustParseAddr("127.0.0.1")})
	if changed.MTU() != 1400 || changed.ICC() || changed.Masquerade() || changed.HostIP().String() != "127.0.0.1" || changed.Gateway() != first.Gateway() {
		t.Errorf("with settings: %+v", changed.Network)
	}
	if own := bridge(DefaultBridge{Addr: prefix("10.5.0.9/16"), Range: prefix("10.5.1.0/24")}); own.Gateway() != prefix("10.5.0.9/16") || own.IPAM[0].Range != prefix("10.5.1.0/24") {
		t.Errorf("with an address: %+v", own.Network)
	}
	if ranged := bridge(DefaultBridge{Range: prefix("10.6.1.0/24")}); ranged.Gateway() != prefix("10.6.1.1/24") {
		t.Errorf("with a range: %+v", ranged.Network)
	}
	if six := bridge(DefaultBridge{IPv6: true, Range6: prefix("fd00:9::/64")}); six.Gateway6() != prefix("fd00:9::1/64") || !six.Gateway().IsValid() {
		t.Errorf("with IPv6: %+v", six.Network)
	}
	if given := bridge(DefaultBridge{Given: "br0"}); !given.Given() || given.Bridge() != "br0" || given.Gateway() != prefix("10.7.0.1/24") {
		t.Errorf("with a bridge of the user's: %+v", given.Network)
	}
	if _, err := open(DefaultBridge{MTU: 1300}, node{}, true); !errdefs.IsUnavailable(err) {
		t.Errorf("it is changed while containers are on it: %v", err)
	}
	if _, err := open(DefaultBridge{Addr: prefix("10.5.0.9/16"), Range: prefix("10.8.1.0/24")}, node{}, false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a range outside of the subnet: %v", err)
	}
	if _, err := open(DefaultBridge{Given: "nosuch"}, node{}, false); err == nil || !strings.Contains(err.Error(), "bridge device with non default name nosuch must be created manually") {
		t.Errorf("a bridge that is not there: %v", err)
	}
	n, err := open(DefaultBridge{Spare: "docker-0a0b0c0d"}, othersHost{}, false)
	if err != nil || n.Find("bridge").Bridge() != "docker-0a0b0c0d" || n.Find("bridge").Given() {
		t.Errorf("docker0 is another daemon's: %v", err)
	}
	if n, err := open(DefaultBridge{Disabled: true}, node{}, false); err != nil || n.Find("bridge") != nil || n.Find("none") == nil {
		t.Errorf("without a default bridge: %v", err)
	}
	if n, err := open(DefaultBridge{Disabled: true}, node{}, false); err != nil || n.Find("bridge") != nil {
		t.Errorf("without a default bridge, again: %v", err)
	}
}

func TestNetworksHaveTheDefaultOptions(t *testing.T) {
	n, err := Open(Config{Dir: t.TempDir(), Pools: ipam.DefaultPools(), Host: node{}, DefaultOptions: map[string]map[string]string{"bridge": {"com.docker.network.driver.mtu": "1234", "a": "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := n.Create(shoal.NetworkSpec{Name: "plain"}, nil)
	if err != nil || plain.MTU() != 1234 || plain.Spec.Options["a"] != "b" {
		t.Errorf("%v %v", plain.Spec.Options, err)
	}
	own := shoal.NetworkSpec{Name: "own"}
	own.Options = map[string]string{"com.docker.network.driver.mtu": "1300"}
	if made, err := n.Create(own, nil); err != nil || made.MTU() != 1300 || made.Spec.Options["a"] != "b" {
		t.Errorf("%v %v", made.Spec.Options, err)
	}
}
