package allocator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

func manager(id string, ip6 bool) *shoal.Node {
	n := &shoal.Node{ID: shoal.NodeID(id), Role: shoal.RoleManager}
	if ip6 {
		n.Description.Addrs6 = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	}
	return n
}

// published is a service on networks with a port on the mesh, and its tasks.
func published(id string, tasks int, networks ...string) []store.Object {
	endpoint := &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: 80, Mode: shoal.PublishIngress}}}
	var attached []shoal.NetworkAttachmentSpec
	for _, n := range networks {
		attached = append(attached, shoal.NetworkAttachmentSpec{Target: n})
	}
	out := []store.Object{&shoal.Service{ID: shoal.ServiceID(id), Spec: shoal.ServiceSpec{Name: id, Endpoint: endpoint, Task: shoal.TaskSpec{Networks: attached}}}}
	for i := range tasks {
		out = append(out, &shoal.Task{ID: shoal.TaskID(fmt.Sprint(id, i)), ServiceID: shoal.ServiceID(id), EndpointSpec: endpoint,
			Spec: shoal.TaskSpec{Networks: attached}, DesiredState: shoal.TaskRunning})
	}
	return out
}

func TestAnOverlayWithIPv6HasBothFamilies(t *testing.T) {
	six, mine := overlay("six"), overlay("mine", "fd00:77::/64", "10.55.0.0/24")
	six.Spec.EnableIPv6, mine.Spec.EnableIPv6 = true, true
	v := settle(t, view(t, append(published("web", 2, "six", "mine"), &shoal.Cluster{ID: "c"}, overlay("ingress"), six, mine)...))
	ula := netip.MustParsePrefix("fd00::/8")
	subnet := v.Network("six").IPAM
	if len(subnet) != 2 || subnet[1].Subnet.Bits() != 64 || !ula.Contains(subnet[1].Subnet.Addr()) || !subnet[1].Gateway.IsValid() {
		t.Error("six has", subnet)
	}
	if got := v.Network("mine").IPAM; len(got) != 2 || got[0].Subnet != netip.MustParsePrefix("10.55.0.0/24") || got[1].Subnet != netip.MustParsePrefix("fd00:77::/64") || got[1].Gateway != netip.MustParseAddr("fd00:77::1") {
		t.Error("mine has", got)
	}
	for _, vip := range v.Service("web").Endpoint.VIPs {
		if (vip.Addr6.IsValid()) != (vip.NetworkID != "ingress") || !vip.Addr.IsValid() {
			t.Error("VIP", vip)
		}
		if vip.NetworkID == "mine" && vip.Addr6 != netip.MustParsePrefix("fd00:77::2/64") {
			t.Error("VIP", vip)
		}
	}
	for _, task := range v.Tasks() {
		for _, at := range task.Networks {
			ip4, ip6 := at.Prefixes()
			if !ip4.IsValid() || ip6.IsValid() != (at.NetworkID != "ingress") {
				t.Error(task.ID, at)
			}
		}
	}
	if again := settle(t, v); again.Network("six").IPAM[1].Subnet != subnet[1].Subnet {
		t.Error("the subnet moved")
	}
}

// An ingress network gets IPv6 when the last manager has it, whatever is there already, and keeps it.
func TestIngressGetsIPv6WhenTheManagersHaveIt(t *testing.T) {
	v := settle(t, view(t, append(published("web", 1), overlay("ingress"), manager("m1", true), manager("m2", false))...))
	if got := v.Network("ingress").IPAM; len(got) != 1 {
		t.Fatal("ingress has", got)
	}
	was := v.Service("web").Endpoint.VIPs[0].Addr
	v = settle(t, v.With(store.Changes{Puts: []store.Object{manager("m2", true)}}))
	if got := v.Network("ingress").IPAM; len(got) != 2 {
		t.Fatal("ingress has", got)
	}
	if vip := v.Service("web").Endpoint.VIPs[0]; vip.Addr != was || !vip.Addr6.IsValid() {
		t.Error("the service has", vip)
	}
	if m := v.Node("m1"); !m.IngressAddr6.IsValid() || !m.IngressAddr.IsValid() || m.IngressAddr6 == v.Node("m2").IngressAddr6 {
		t.Error("nodes have", m.IngressAddr6, v.Node("m2").IngressAddr6)
	}
	v = settle(t, v.With(store.Changes{Puts: []store.Object{manager("m3", false)}}))
	if got := v.Network("ingress").IPAM; len(got) != 2 || !v.Node("m3").IngressAddr6.IsValid() {
		t.Error("ingress has", got, "and m3", v.Node("m3").IngressAddr6)
	}
	mine := overlay("ingress", "10.9.0.0/24")
	v = settle(t, view(t, mine, manager("m1", true)))
	if got := v.Network("ingress").IPAM; len(got) != 1 {
		t.Error("an ingress network of the user's making has", got)
	}
}

func TestAnAttachmentMayAskForEitherAddress(t *testing.T) {
	n := overlay("six", "10.5.0.0/24", "fd00:5::/64")
	n.Spec.EnableIPv6 = true
	ask := func(id, addr string) *shoal.Task {
		return &shoal.Task{ID: shoal.TaskID(id), DesiredState: shoal.TaskRunning,
			Spec: shoal.TaskSpec{Networks: []shoal.NetworkAttachmentSpec{{Target: "six"}}, Attachment: &shoal.AttachmentSpec{Address: netip.MustParseAddr(addr)}}}
	}
	v := settle(t, view(t, n, ask("a", "10.5.0.9"), ask("b", "fd00:5::9"), ask("c", "10.5.0.0"), ask("d", "10.6.0.1")))
	for id, want := range map[string]string{"a": "[10.5.0.9/24 fd00:5::2/64]", "b": "[10.5.0.2/24 fd00:5::9/64]"} {
		if at := v.Task(shoal.TaskID(id)).Networks; len(at) != 1 || fmt.Sprint(at[0].Addresses) != want {
			t.Errorf("%s has %v, want %s", id, at, want)
		}
	}
	for _, id := range []string{"c", "d"} {
		if task := v.Task(shoal.TaskID(id)); task.Status.Err == "" || len(task.Networks) > 0 {
			t.Error(id, task.Networks, task.Status.Err)
		}
	}
}

func TestGrowth(t *testing.T) {
	small := &shoal.Cluster{ID: "c", DefaultAddrPool: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/26")}, SubnetSize: 28}
	v := settle(t, view(t, append(published("web", 20, "a"), small, overlay("ingress"), overlay("a"))...))
	if a := v.Network("a").IPAM; len(a) != 2 {
		t.Error("a has", a)
	}
	for _, task := range v.Tasks() {
		if task.Status.State != shoal.TaskPending || len(task.Networks) != 2 {
			t.Error(task.ID, task.Networks, task.Status.Err)
		}
	}
	if got := v.Service("web").Endpoint.VIPs[1].Addr; got != netip.MustParsePrefix("10.0.0.18/28") {
		t.Error("the VIP is", got)
	}
	v = settle(t, v.With(store.Changes{Puts: published("more", 9, "a")}))
	refused := 0
	for _, task := range v.Tasks() {
		if task.Status.Err != "" {
			refused++
			if !strings.Contains(task.Status.Err, "could not find an available IP") {
				t.Error(task.Status.Err)
			}
		}
	}
	if refused != 5 { // a further 13 addresses, two of them for services, and 20 tasks before
		t.Error(refused, "tasks were refused")
	}
	fixed := overlay("a", "10.7.0.0/29")
	v = settle(t, view(t, append(published("web", 6, "a"), overlay("ingress"), fixed)...))
	if got := v.Network("a").IPAM; len(got) != 1 {
		t.Error("a chosen subnet has grown to", got)
	}
	if task := v.Task("web5"); task.Status.Err != "failed to allocate network IP for the task: could not find an available IP on network a" {
		t.Error(task.Status.Err)
	}
}

func TestUsage(t *testing.T) {
	n := overlay("a", "10.7.0.0/28", "fd00:7::/64")
	n.Spec.EnableIPv6 = true
	n.Spec.IPAM[0].Range = netip.MustParsePrefix("10.7.0.8/29")
	v := settle(t, view(t, append(published("web", 3, "a"), overlay("ingress"), n)...))
	got := UsageOf(v, v.Network("a"))
	if len(got) != 2 || got[0].InUse != 7 || got[0].Left != 3 || got[1].InUse != 6 || got[1].Left < 1<<63 {
		t.Errorf("%+v", got) // network, broadcast, gateway, VIP, three tasks
	}
	if Full(got) {
		t.Error("full")
	}
	if v = settle(t, v.With(store.Changes{Puts: published("web", 6, "a")})); !Full(UsageOf(v, v.Network("a"))) {
		t.Errorf("not full: %+v", UsageOf(v, v.Network("a")))
	}
}
