package allocator

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// settle applies the allocator until it wants nothing more.
func settle(t interface{ Fatal(...any) }, v store.View) store.View {
	a := New(Config{})
	for range 100 {
		busy := false
		for _, k := range a.All(v) {
			c, err := a.Reconcile(v, k)
			if err != nil {
				t.Fatal(err)
			}
			busy = busy || !c.Empty()
			v = v.With(c)
		}
		if !busy {
			return v
		}
	}
	t.Fatal("the allocator never comes to rest")
	return v
}

func overlay(id string, subnets ...string) *shoal.Network {
	n := &shoal.Network{ID: shoal.NetworkID(id), Spec: shoal.NetworkSpec{Name: id, Driver: shoal.DriverOverlay, Ingress: id == "ingress"}}
	for _, s := range subnets {
		n.Spec.IPAM = append(n.Spec.IPAM, shoal.Subnet{Subnet: netip.MustParsePrefix(s)})
	}
	return n
}

func view(t *testing.T, objects ...store.Object) store.View {
	t.Helper()
	return storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: objects})
}

func TestSubnets(t *testing.T) {
	host := &shoal.Node{ID: "n", Description: shoal.NodeDescription{Routes: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("10.0.2.0/23")}}}
	v := settle(t, view(t, host, overlay("ingress"), overlay("a"), overlay("b", "20.20.20.0/24")))
	for id, want := range map[string]string{"ingress": "10.0.0.0/24", "a": "10.0.4.0/24", "b": "20.20.20.0/24"} {
		n := v.Network(shoal.NetworkID(id))
		if len(n.IPAM) != 1 || n.IPAM[0].Subnet.String() != want {
			t.Errorf("%s has %+v %s, want %s", id, n.IPAM, n.Err, want)
		}
	}
	if v.Network("ingress").VNI != 4096 || v.Network("a").VNI == v.Network("b").VNI || v.Network("b").VNI < 4097 {
		t.Error("VNIs", v.Network("ingress").VNI, v.Network("a").VNI, v.Network("b").VNI)
	}
	if got := v.Node("n").IngressAddr; got != netip.MustParsePrefix("10.0.0.2/24") {
		t.Errorf("node has %q on ingress", got)
	}
	if err := CheckSubnets(v, "", []shoal.Subnet{{Subnet: netip.MustParsePrefix("20.20.0.0/16")}}); err == nil {
		t.Error("overlapping subnet is allowed")
	}
	if err := CheckSubnets(v, "", []shoal.Subnet{{Subnet: netip.MustParsePrefix("30.0.0.0/24")}, {Subnet: netip.MustParsePrefix("30.0.0.0/25")}}); err == nil {
		t.Error("subnets that overlap one another are allowed")
	}
}

func TestPorts(t *testing.T) {
	port := func(published uint16, mode shoal.PublishMode) *shoal.EndpointSpec {
		return &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: 80, Published: published, Mode: mode}}}
	}
	s := func(id string, e *shoal.EndpointSpec) *shoal.Service {
		return &shoal.Service{ID: shoal.ServiceID(id), Spec: shoal.ServiceSpec{Name: id, Endpoint: e}}
	}
	v := settle(t, view(t, overlay("ingress"), s("a", port(8080, shoal.PublishIngress)), s("b", port(0, shoal.PublishIngress)), s("c", port(0, shoal.PublishIngress)), s("h", port(90, shoal.PublishHost))))
	if b, c := v.Service("b").Endpoint.Ports[0].Published, v.Service("c").Endpoint.Ports[0].Published; b != 30000 || c != 30001 {
		t.Error("dynamic ports", b, c)
	}
	err := CheckPorts(v, "new", port(8080, shoal.PublishIngress))
	if err == nil || err.Error() != "rpc error: code = InvalidArgument desc = port '8080' is already in use by service 'a' (a) as an ingress port" {
		t.Error(err)
	}
	if err := CheckPorts(v, "new", port(90, shoal.PublishHost)); err != nil {
		t.Error(err)
	}
	if err := CheckPorts(v, "new", port(90, shoal.PublishIngress)); err == nil {
		t.Error("a host port is taken for the mesh")
	}
	if err := CheckPorts(v, "a", port(8080, shoal.PublishIngress)); err != nil {
		t.Error(err)
	}
}

// TestAddressesAreUnique lets tasks come and end at random on a small network: no two that live share an address, one just
// freed is not given out next, and when all have ended the whole network is free again.
func TestAddressesAreUnique(t *testing.T) {
	base := view(t, overlay("ingress"), overlay("net", "10.1.0.0/28"))
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Unix(1000, 0)
		v := settle(rt, base)
		service := &shoal.Service{ID: "s", Spec: shoal.ServiceSpec{Name: "s", Task: shoal.TaskSpec{Networks: []shoal.NetworkAttachmentSpec{{Target: "net"}}}}}
		v = settle(rt, v.With(store.Changes{Puts: []store.Object{service}}))
		for step := range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Second)
			if live := alive(v); len(live) > 0 && rapid.Bool().Draw(rt, "end") {
				ended := *rapid.SampledFrom(live).Draw(rt, "task")
				ended.Status.State = shoal.TaskShutdown
				v = v.With(store.Changes{Puts: []store.Object{&ended}})
			} else {
				v = v.With(store.Changes{Puts: []store.Object{&shoal.Task{
					ID: shoal.TaskID(fmt.Sprintf("t%03d", step)), Meta: shoal.Meta{CreatedAt: now}, ServiceID: "s", Slot: 1,
					Spec: service.Spec.Task, DesiredState: shoal.TaskRunning,
				}}})
			}
			v = settle(rt, v)
			owner := map[netip.Prefix]string{netip.MustParsePrefix("10.1.0.1/28"): "gateway", v.Service("s").Endpoint.VIPs[0].Addr: "service"}
			for _, task := range alive(v) {
				if task.Status.State == shoal.TaskNew {
					if len(owner) < 10 && len(alive(v)) <= 12 {
						rt.Fatalf("%s has no address: %s", task.ID, task.Status.Err)
					}
					continue
				}
				addr := task.Networks[0].Addresses[0]
				if other := owner[addr]; other != "" {
					rt.Fatalf("%s and %s both have %s", task.ID, other, addr)
				}
				if addr.Addr() == netip.MustParseAddr("10.1.0.0") || addr.Addr() == netip.MustParseAddr("10.1.0.15") {
					rt.Fatalf("%s is no host's address", addr)
				}
				owner[addr] = string(task.ID)
			}
		}
	})
}

func alive(v store.View) []*shoal.Task {
	var all []*shoal.Task
	for _, t := range v.Tasks() {
		if !t.Status.State.Ended() {
			all = append(all, t)
		}
	}
	return all
}
