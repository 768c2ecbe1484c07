package names

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestNamesOfServicesAndTasks(t *testing.T) {
	vip := shoal.ServiceEntry{ID: "s", Name: "a_web", Stack: "a", Aliases: map[shoal.NetworkID][]string{"net": {"web"}},
		VIPs: map[shoal.NetworkID]netip.Prefix{"net": netip.MustParsePrefix("10.0.1.2/24")}, VIPs6: map[shoal.NetworkID]netip.Prefix{"net": netip.MustParsePrefix("fd00::2/64")}}
	dnsrr := vip
	dnsrr.VIPs, dnsrr.VIPs6 = nil, nil
	task := shoal.Endpoint{TaskID: "t", NetworkID: "net", ServiceID: "s", Name: "a_web.1.t", ContainerID: "0123456789abcdef", Slot: 1, Aliases: []string{"web"},
		Addr: netip.MustParsePrefix("10.0.1.5/24"), Addr6: netip.MustParsePrefix("fd00::5/64"), State: shoal.EndpointReady}
	in := func(state shoal.EndpointState) shoal.Endpoint {
		e := task
		e.State = state
		return e
	}
	attached := task
	attached.ServiceID, attached.Slot, attached.Name = "", 0, "box"
	global := task
	global.Slot = 0
	for name, c := range map[string]struct {
		endpoint shoal.Endpoint
		service  shoal.ServiceEntry
		want     string
	}{
		"ready":              {task, vip, "0123456789ab 1.a_web 1.web a_web.1.t tasks.a_web tasks.web"},
		"ready, dnsrr":       {task, dnsrr, "0123456789ab 1.a_web 1.web a_web a_web.1.t tasks.a_web tasks.web web"},
		"starting":           {in(shoal.EndpointStarting), dnsrr, "0123456789ab 1.a_web 1.web a_web.1.t"},
		"draining":           {in(shoal.EndpointDraining), dnsrr, "0123456789ab a_web.1.t"},
		"global":             {global, vip, "0123456789ab a_web.1.t tasks.a_web tasks.web"},
		"attached container": {attached, shoal.ServiceEntry{}, "0123456789ab box web"},
	} {
		got := endpointRecords(c.endpoint, c.service, true)["net"]
		slices.Sort(got.Names)
		if text := strings.Join(got.Names, " "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
		if len(got.Addrs) != 2 || !got.Reverse || got.Stack != c.service.Stack {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := serviceRecords(vip, true)["net"]; strings.Join(got.Names, " ") != "a_web web" || len(got.Addrs) != 2 || got.Reverse {
		t.Errorf("service: %+v", got)
	}
}
