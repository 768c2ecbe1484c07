package sandbox

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// recorded is a record as earlier versions have written it. A daemon that cannot read it loses the networks of running containers.
const recorded = `{"Spec":{"ContainerID":"0123456789abcdef","Name":"c","Hostname":"","Domainname":"","Mode":"networks","Endpoints":null,"Ports":null,` +
	`"DNS":{"Nameservers":null,"Search":null,"Options":null},"ExtraHosts":null,"Links":null,"TaskID":"","ServiceID":"","IngressAddr":"","IngressAddr6":""},` +
	`"Endpoints":[{"Info":{"Network":"br","NetworkID":"brid","EndpointID":"e","Interface":"eth0","Addr":"10.0.0.2/24","Gateway":"10.0.0.1","Addr6":"","Gateway6":"",` +
	`"MAC":"02:42:0a:00:00:02","Aliases":null,"DNSNames":["c"],"DriverOpts":null},"Bridge":"br-brid","Overlay":"","Parent":"","Network":null,"Attachment":"","Aliases":["al"]}],` +
	`"Ports":[{"Protocol":"tcp","Target":80,"HostIP":"0.0.0.0","HostPort":8080,"HostPortEnd":0}]}`

func TestRecordsOfEarlierVersionsAreReadAndKeepTheirNames(t *testing.T) {
	r := Records(t.TempDir())
	file := filepath.Join(r.Dir("0123456789abcdef"), "sandbox.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(recorded), 0o600); err != nil {
		t.Fatal(err)
	}
	all := r.Load(slog.New(slog.DiscardHandler), func(name string) bool { return name == "0123456789ab" }, noQuarantine(t))
	if len(all) != 1 || !all[0].Active || all[0].Endpoints[0].Bridge != "br-brid" || all[0].Endpoints[0].Info.MAC.Err() != nil {
		t.Fatalf("read %+v", all)
	}
	if err := r.Save(all[0]); err != nil {
		t.Fatal(err)
	}
	var was, is map[string]any
	if err := errors.Join(json.Unmarshal([]byte(recorded), &was), atomicfile.ReadJSON(file, &is)); err != nil {
		t.Fatal(err)
	}
	was["SchemaVersion"] = 1.0
	if !reflect.DeepEqual(was, is) {
		t.Errorf("wrote\n%v, want\n%v", is, was)
	}
	// After a restart of the machine the namespace is gone, and with it the container's folder.
	if all := r.Load(slog.New(slog.DiscardHandler), func(string) bool { return false }, noQuarantine(t)); len(all) != 0 {
		t.Errorf("read %+v", all)
	}
	if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// TestARecordOfANewerDaemonKeepsWhatThisOneDoesNotKnow: a daemon that was downgraded while containers ran rewrote their records without it.
func TestARecordOfANewerDaemonKeepsWhatThisOneDoesNotKnow(t *testing.T) {
	r := Records(t.TempDir())
	file := filepath.Join(r.Dir("0123456789abcdef"), "sandbox.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(recorded, `{"Spec":{`, `{"SchemaVersion":3,"Deleted":"soon","Spec":{"Shaping":{"Rate":7},`, 1)
	if err := os.WriteFile(file, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	all := r.Load(slog.New(slog.DiscardHandler), func(string) bool { return true }, noQuarantine(t))
	if len(all) != 1 {
		t.Fatalf("read %+v", all)
	}
	all[0].Spec.Name = "renamed"
	if err := r.Save(all[0]); err != nil {
		t.Fatal(err)
	}
	var got struct {
		SchemaVersion int
		Deleted       string
		Spec          struct {
			Name    string
			Shaping struct{ Rate int }
		}
	}
	if err := atomicfile.ReadJSON(file, &got); err != nil || got.SchemaVersion != 3 || got.Deleted != "soon" || got.Spec.Name != "renamed" || got.Spec.Shaping.Rate != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestADeletedSandboxCannotBeLocked(t *testing.T) {
	sb := NewSet().GetOrCreate("c")
	if !sb.Lock() {
		t.Fatal("a new sandbox cannot be locked")
	}
	sb.MarkDeleted()
	sb.Unlock()
	if sb.Lock() {
		t.Error("a deleted sandbox was locked")
	}
}

func TestInterfacesAndDefaultRoutes(t *testing.T) {
	sb := NewSet().GetOrCreate("c")
	add := func(name string, gateway string) *Endpoint {
		e := sb.NewEndpoint(shoal.Network{Spec: shoal.NetworkSpec{Name: name}}, netip.MustParsePrefix("10.0.0.2/24"), netip.Prefix{}, shoal.EndpointRequest{})
		if gateway != "" {
			e.Bridge, e.Info.Gateway = name, netip.MustParseAddr(gateway)
		}
		sb.Endpoints = append(sb.Endpoints, e)
		return e
	}
	exit := func() *Endpoint { route, _ := sb.Endpoints.DefaultRoutes(); return route }
	add("overlay", "")
	if got := exit(); got != nil {
		t.Errorf("an overlay has the default route: %+v", got)
	}
	bridge := add(shoal.DefaultBridgeName, "10.0.0.1")
	if got := exit(); got != bridge {
		t.Errorf("default route through %+v", got)
	}
	sb.Endpoints = sb.Endpoints[1:]
	gateway := add(shoal.GwbridgeName, "10.0.0.1")
	if got := exit(); got != gateway || gateway.Info.Interface != "eth0" {
		t.Errorf("default route through %+v", got)
	}
}

// Of several networks the first to be attached had the default route, whatever their priorities.
func TestTheDefaultRouteFollowsPriorities(t *testing.T) {
	sb := NewSet().GetOrCreate("c")
	add := func(name string, priority int, addr6, gateway6 string) *Endpoint {
		var prefix6 netip.Prefix
		if addr6 != "" {
			prefix6 = netip.MustParsePrefix(addr6)
		}
		e := sb.NewEndpoint(shoal.Network{Spec: shoal.NetworkSpec{Name: name}}, netip.MustParsePrefix("10.0.0.2/24"), prefix6, shoal.EndpointRequest{GwPriority: priority})
		e.Bridge, e.Info.Gateway = name, netip.MustParseAddr("10.0.0.1")
		if gateway6 != "" {
			e.Info.Gateway6 = netip.MustParseAddr(gateway6)
		}
		sb.Endpoints = append(sb.Endpoints, e)
		return e
	}
	check := func(what string, want4, want6 *Endpoint) {
		t.Helper()
		if route4, route6 := sb.Endpoints.DefaultRoutes(); route4 != want4 || route6 != want6 {
			t.Errorf("%s: default routes through %+v and %+v", what, route4, route6)
		}
	}
	b := add("b", 0, "", "")
	a := add("a", 0, "", "")
	check("by name", a, nil)
	dual := add("z", 0, "fd00::2/64", "fd00::1")
	check("both families", dual, dual)
	first := add("y", 7, "", "")
	check("by priority", first, dual)
	first.Info.GwPriority, b.Info.GwPriority = -1, 1
	check("by changed priority", b, dual)
}

// noQuarantine fails the test if a record is set aside.
func noQuarantine(t *testing.T) func(string, error) error {
	return func(path string, cause error) error {
		t.Errorf("%s was set aside: %v", path, cause)
		return nil
	}
}
