package local

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// node is a Host with one route and no IPv6.
type node struct{}

func (node) Routes() ([]netip.Prefix, error) {
	return []netip.Prefix{netip.MustParsePrefix("172.17.0.0/24")}, nil
}

func (node) Addrs6([]netip.Prefix) ([]netip.Addr, error) { return nil, nil }

func (node) CheckLink(name string) error {
	if name != "eth0" {
		return errors.New("Link not found")
	}
	return nil
}

// CheckBridge implements Host: the node has a network card eth0.
func (node) CheckBridge(name string) error {
	if name == "eth0" {
		return errors.New("existing interface eth0 is not a bridge")
	}
	return nil
}

// HasIPvlan implements Host.
func (node) HasIPvlan() bool { return true }

// IsOthers implements Host.
func (node) IsOthers(string) bool { return false }

// BridgeAddr implements Host: the node has a bridge br0.
func (node) BridgeAddr(name string) (netip.Prefix, error) {
	if name != "br0" {
		return netip.Prefix{}, errors.New("bridge device with non default name " + name + " must be created manually")
	}
	return netip.MustParsePrefix("10.7.0.1/24"), nil
}

// unused tells that no network has containers.
func unused(*Network) bool { return false }

func openNetworks(t *testing.T, dir string) *Networks {
	t.Helper()
	return openRetrying(t, dir, func(part string, cause error, _ func() error) { t.Errorf("%s: %v", part, cause) })
}

func openRetrying(t *testing.T, dir string, retry func(string, error, func() error)) *Networks {
	t.Helper()
	n, err := Open(Config{Dir: dir, Retry: retry, Pools: ipam.DefaultPools(), Host: node{}, SetAside: func(path string, _ error) error {
		return os.Rename(path, filepath.Join(filepath.Dir(path), "aside-"+filepath.Base(path)+".bad"))
	}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNetworksAreOnDisk(t *testing.T) {
	dir := t.TempDir()
	n := openNetworks(t, dir)
	taken := []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}
	if err := n.CreatePredefined(taken, unused); err != nil {
		t.Fatal(err)
	}
	if got := n.Find("bridge").Gateway(); got != netip.MustParsePrefix("172.19.0.1/16") {
		t.Errorf("the first bridge, next to a route and a network of the cluster, has %s", got)
	}
	gateway, err := n.EnsureGatewayBridge(taken)
	if err != nil || gateway.Bridge() != shoal.GwbridgeName || gateway.ICC() || !gateway.Masquerade() || gateway.Gateway6().IsValid() {
		t.Fatalf("gateway bridge %+v, %v", gateway, err)
	}
	again := openNetworks(t, dir)
	for id, l := range n.All() {
		if got := again.Get(id); got == nil || got.Spec.Name != l.Spec.Name || got.HasEndpoints() != l.HasEndpoints() {
			t.Errorf("%s was read as %+v", l.Spec.Name, got)
		}
	}
	if same, err := again.EnsureGatewayBridge(taken); err != nil || same.ID != gateway.ID {
		t.Errorf("the gateway bridge was made again: %v", err)
	}
}

func TestWhatCannotBeCreated(t *testing.T) {
	n := openNetworks(t, t.TempDir())
	if _, err := n.Create(shoal.NetworkSpec{Name: "br"}, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spec shoal.NetworkSpec
		is   func(error) bool
	}{
		"a name that is taken":     {shoal.NetworkSpec{Name: "br"}, errdefs.IsConflict},
		"an unknown driver":        {shoal.NetworkSpec{Name: "x", Driver: "nosuch"}, errdefs.IsNotFound},
		"IPv6 without IPv6":        {shoal.NetworkSpec{Name: "x", EnableIPv6: true}, errdefs.IsInvalidArgument},
		"macvlan on no interface":  {shoal.NetworkSpec{Name: "x", Driver: shoal.DriverMacvlan, Options: map[string]string{"parent": "eth1"}}, errdefs.IsInvalidArgument},
		"a subnet that is taken":   {shoal.NetworkSpec{Name: "x", IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.1.0/25")}}}, errdefs.IsPermissionDenied},
		"a gateway elsewhere":      {shoal.NetworkSpec{Name: "x", IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.3.1")}}}, errdefs.IsInvalidArgument},
		"macvlan on the loopback":  {shoal.NetworkSpec{Name: "x", Driver: shoal.DriverMacvlan, Options: map[string]string{"parent": "lo"}}, errdefs.IsInvalidArgument},
		"an ipvlan mode":           {shoal.NetworkSpec{Name: "x", Driver: shoal.DriverIPvlan, Options: map[string]string{"parent": "eth0", "ipvlan_mode": "l4"}}, errdefs.IsInvalidArgument},
		"an ipvlan flag":           {shoal.NetworkSpec{Name: "x", Driver: shoal.DriverIPvlan, Options: map[string]string{"parent": "eth0", "ipvlan_flag": "red"}}, errdefs.IsInvalidArgument},
		"no family":                {shoal.NetworkSpec{Name: "x", EnableIPv4: new(bool)}, errdefs.IsInvalidArgument},
		"no family, by option":     {shoal.NetworkSpec{Name: "x", Options: map[string]string{optionEnableIPv4: "false"}}, errdefs.IsInvalidArgument},
		"a family that is no bool": {shoal.NetworkSpec{Name: "x", Options: map[string]string{optionEnableIPv6: "maybe"}}, errdefs.IsInvalidArgument},
		"IPv6 that is not enabled": {shoal.NetworkSpec{Name: "x", IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("fd00::/64")}}}, errdefs.IsInvalidArgument},
		"two subnets": {shoal.NetworkSpec{Name: "x", IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.4.0/24")}, {Subnet: netip.MustParsePrefix("10.0.5.0/24")}}},
			errdefs.IsPermissionDenied},
		"two subnets of macvlan": {shoal.NetworkSpec{Name: "x", Driver: shoal.DriverMacvlan, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.4.0/24")},
			{Subnet: netip.MustParsePrefix("10.0.5.0/24")}}}, errdefs.IsNotImplemented},
		"addresses of others":       {shoal.NetworkSpec{Name: "x", IPAMDriver: "null"}, errdefs.IsNotImplemented},
		"an unknown IPAM driver":    {shoal.NetworkSpec{Name: "x", IPAMDriver: "nosuch"}, errdefs.IsNotFound},
		"an unknown gateway mode":   {shoal.NetworkSpec{Name: "x", Options: map[string]string{optionMode4: "open"}}, errdefs.IsInvalidArgument},
		"isolated, not internal":    {shoal.NetworkSpec{Name: "x", Options: map[string]string{optionMode6: "isolated"}}, errdefs.IsInvalidArgument},
		"icc that is no bool":       {shoal.NetworkSpec{Name: "x", Options: map[string]string{optionICC: "maybe"}}, errdefs.IsInvalidArgument},
		"an MTU that is no number":  {shoal.NetworkSpec{Name: "x", Options: map[string]string{shoal.OptionMTU: "big"}}, errdefs.IsInvalidArgument},
		"a source of IPv6 for IPv4": {shoal.NetworkSpec{Name: "x", Options: map[string]string{optionSource4: "fd00::1"}}, errdefs.IsInvalidArgument},
		"settings that nobody has":  {shoal.NetworkSpec{Name: "x", ConfigFrom: "nosuch"}, errdefs.IsNotFound},
	} {
		if l, err := n.Create(c.spec, []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}); !c.is(err) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	if n.Find("x") != nil {
		t.Error("a network that was refused is there")
	}
}

func TestWhatCannotBeRemoved(t *testing.T) {
	n := openNetworks(t, t.TempDir())
	if err := n.CreatePredefined(nil, unused); err != nil {
		t.Fatal(err)
	}
	settings := shoal.NetworkSpec{Name: "settings", ConfigOnly: true, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.9.0/24")}}}
	for _, spec := range []shoal.NetworkSpec{settings, {Name: "made", ConfigFrom: "settings"}, {Name: "busy"}} {
		if _, err := n.Create(spec, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.Find("made").Gateway(); got != netip.MustParsePrefix("10.0.9.1/24") {
		t.Errorf("the network made from settings has %s", got)
	}
	inUse := func(l *Network) error {
		if l.Spec.Name == "busy" {
			return errdefs.ErrPermissionDenied
		}
		return nil
	}
	for _, name := range []string{"bridge", "host", "none", "settings", "busy"} {
		if _, err := n.Remove(name, inUse); !errdefs.IsPermissionDenied(err) {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	for _, name := range []string{"made", "settings"} {
		if _, err := n.Remove(name, inUse); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
		if _, err := n.Remove(name, inUse); !errdefs.IsNotFound(err) {
			t.Errorf("remove %s again: %v", name, err)
		}
	}
}

func TestEndpointsGetAddresses(t *testing.T) {
	n := openNetworks(t, t.TempDir())
	l, err := n.Create(shoal.NetworkSpec{Name: "br", IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.0.9.0/29"), Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("10.0.9.2")}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Reserve(netip.MustParsePrefix("10.0.9.3/29"), netip.Prefix{})
	addr, addr6, err := l.Take(netip.Addr{}, netip.Addr{})
	if err != nil || addr != netip.MustParsePrefix("10.0.9.4/29") || addr6.IsValid() {
		t.Errorf("got %s and %s, %v", addr, addr6, err)
	}
	if _, _, err := l.Take(addr.Addr(), netip.Addr{}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("an address that is in use: %v", err)
	}
	l.Release(addr, addr6)
	if _, _, err := l.Take(addr.Addr(), netip.Addr{}); err != nil {
		t.Errorf("a released address: %v", err)
	}
}

// A power cut left three records of networks with length 0, and the daemon did not start any more.
func TestAMalformedRecordIsSetAside(t *testing.T) {
	dir := t.TempDir()
	n := openNetworks(t, dir)
	if err := n.CreatePredefined(nil, unused); err != nil {
		t.Fatal(err)
	}
	kept, err := n.createSaved(shoal.NetworkSpec{Name: "kept", Driver: shoal.DriverBridge}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"empty": "", "cut": `{"ID":"cut","Spec":{"Na`, "bare": `{"ID":"bare","Spec":{"Name":"bare","Driver":"bridge"}}`, "other": `{"ID":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "fault.json"), 0o700); err != nil { // it can be read as little as one on a bad block
		t.Fatal(err)
	}
	n = openRetrying(t, dir, func(part string, _ error, _ func() error) {
		if part != "network fault" {
			t.Errorf("read again later: %s", part)
		}
	})
	if n.Get(kept.ID) == nil || n.Find("bridge") == nil || n.Find("bare") != nil {
		t.Error("not the networks that were there before")
	}
	aside, err := filepath.Glob(filepath.Join(dir, "aside-*"))
	if err != nil || len(aside) != 4 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "fault.json")); err != nil {
		t.Errorf("a record that could not be read at the moment is gone: %v", err)
	}
}

// `network create --config-only --subnet fd00:1::/64` once panicked, and so did every start after it.
func TestAConfigOnlyNetworkMayHaveIPv6SubnetsOnly(t *testing.T) {
	dir := t.TempDir()
	n := openNetworks(t, dir)
	spec := shoal.NetworkSpec{Name: "c6", ConfigOnly: true, IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("fd00:1::/64")}}}
	made, err := n.Create(spec, nil)
	if err = errors.Join(err, n.Save(made)); err != nil {
		t.Fatal(err)
	}
	if again := openNetworks(t, dir).Get(made.ID); again == nil || len(again.IPAM) != 1 {
		t.Errorf("%+v", again)
	}
}

// `network create -o com.docker.network.bridge.name=eth0` once took the address from the node's network card.
func TestABridgeNeverTakesOverAnInterface(t *testing.T) {
	n := openNetworks(t, t.TempDir())
	for name, want := range map[string]error{"eth0": errdefs.ErrInvalidArgument, "a-name-of-16-byte": errdefs.ErrInvalidArgument, "a/b": errdefs.ErrInvalidArgument, "br0": nil} {
		_, err := n.Create(shoal.NetworkSpec{Name: "x" + name, Options: map[string]string{optionBridgeName: name}}, nil)
		if !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.Create(shoal.NetworkSpec{Name: "twin", Options: map[string]string{optionBridgeName: "br0"}}, nil); !errdefs.IsPermissionDenied(err) {
		t.Errorf("two networks of one bridge: %v", err)
	}
}

// A bad block or too many open files made a network vanish until the next start, and a network of its name or subnet could be made meanwhile.
func TestARecordThatCannotBeReadIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	made, err := openNetworks(t, dir).createSaved(shoal.NetworkSpec{Name: "n", Driver: shoal.DriverBridge}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, string(made.ID)+".json")
	hide := func(path string) (show func()) { // what is read gives an error of another kind than "no such file"
		if err := os.Rename(path, path+".hidden"); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := errors.Join(os.RemoveAll(path), os.Rename(path+".hidden", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	showFile := hide(file)
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	again := map[string]func() error{}
	retry := func(part string, _ error, try func() error) { again[part] = try }
	n := openRetrying(t, dir, retry)
	try := again["network "+string(made.ID)]
	if try == nil || try() == nil || n.Get(made.ID) != nil {
		t.Fatalf("%v", again)
	}
	showFile()
	if err := try(); err != nil || n.Get(made.ID) == nil {
		t.Errorf("%v", err)
	}

	// The folder as a whole.
	showDir := hide(dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n = openRetrying(t, dir, retry)
	if _, err := n.Create(shoal.NetworkSpec{Name: "n"}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("made, though it may be there: %v", err)
	}
	showDir()
	if err := again["networks of this node"](); err != nil || n.Get(made.ID) == nil {
		t.Errorf("%v", err)
	}
}
