package agent

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestASandboxHasTheTasksAddressesAndPorts(t *testing.T) {
	port := shoal.Port{Protocol: shoal.TCP, Target: 80, Published: 8080, Mode: shoal.PublishHost}
	task := &shoal.Task{
		Spec: shoal.TaskSpec{Container: &shoal.ContainerSpec{}}, Labels: map[string]string{"shoal.publish.8080.host-ip": "127.0.0.1,192.0.2.1"},
		EndpointSpec: &shoal.EndpointSpec{Ports: []shoal.Port{port}}, Ports: []shoal.Port{port},
		Networks: []shoal.TaskNetwork{{NetworkID: "mesh", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24"), netip.MustParsePrefix("fd00::5/64")}}, {NetworkID: "net", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.5/24"), netip.MustParsePrefix("fd00:1::5/64")}}},
	}
	deps := Dependencies{Networks: map[shoal.NetworkID]shoal.Network{"mesh": {Spec: shoal.NetworkSpec{Ingress: true}}}}
	got, err := sandbox(task, deps)
	if err != nil {
		t.Fatal(err)
	}
	e := got.Endpoints[0]
	if text := fmt.Sprint(got.IngressAddr, got.IngressAddr6, e.Addr, e.Addr6); text != "10.0.0.5/24 fd00::5/64 10.0.1.5 fd00:1::5" {
		t.Error("addresses", text)
	}
	if len(got.Ports) != 2 || got.Ports[0].HostIP.String() != "127.0.0.1" || got.Ports[1].HostIP.String() != "192.0.2.1" || got.Ports[1].HostPort != 8080 {
		t.Errorf("ports %+v", got.Ports)
	}
	task.Labels = nil
	if got, err = sandbox(task, deps); err != nil || len(got.Ports) != 1 || got.Ports[0].HostIP.IsValid() {
		t.Errorf("without a label: %+v %v", got.Ports, err)
	}
}
