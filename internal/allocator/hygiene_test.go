package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// machine is a cluster whose users, agents and nodes do what they like, while the allocator is restarted, loses its leadership and
// comes late.
type machine struct {
	*rapid.T
	v     store.View
	queue []reconcile.Key
	count int
	given map[string]string // what a live task was given, by task
}

const hygieneSteps = 100 // in each of rapid's 100 checks

func TestAddressHygiene(t *testing.T) {
	empty := storetest.Open(t, store.NewMemory()).View()
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{T: rt, v: empty, given: map[string]string{}}
		m.change(&shoal.Cluster{ID: "c", DefaultAddrPool: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.2.0.0/25")}, SubnetSize: 28})
		m.change(m.network("ingress", true))
		actions := []func(){m.createNetwork, m.removeNetwork, m.replaceIngress, m.createService, m.createService, m.removeService,
			m.scaleUp, m.scaleUp, m.attach, m.endTask, m.endTask, m.forgetTask, m.joinNode, m.leaveNode, m.restart}
		for range hygieneSteps {
			rapid.SampledFrom(actions).Draw(rt, "action")()
			if rapid.IntRange(0, 3).Draw(rt, "late") > 0 {
				m.allocate()
			}
		}
		m.allocate()
		m.restart()
		m.allocate()
		m.checkServed()
	})
}

func (m *machine) name(kind string) string {
	m.count++
	return fmt.Sprint(kind, m.count)
}

// put and remove write on behalf of someone and tell the allocator.
func (m *machine) put(o store.Object) {
	kind, id := store.KindOf(o), o.ObjectID()
	old := m.v.Get(kind, id)
	m.v = m.v.With(store.Changes{Puts: []store.Object{o}})
	m.queue = append(m.queue, New(Config{}).Concerned(m.v, store.Change{Kind: kind, ID: id, Old: old, New: o})...)
}

func (m *machine) remove(o store.Object) {
	m.v = m.v.With(store.Changes{Deletes: []store.Object{o}})
	m.queue = append(m.queue, New(Config{}).Concerned(m.v, store.Change{Kind: store.KindOf(o), ID: o.ObjectID(), Old: o})...)
}

func (m *machine) change(o store.Object) {
	o.Head().CreatedAt = time.Unix(int64(m.count), 0)
	m.put(o)
}

// restart is a new leader: it has no queue and looks at everything.
func (m *machine) restart() { m.queue = New(Config{}).All(m.v) }

// allocate works the queue off, looking at every subnet when it is given.
func (m *machine) allocate() {
	for steps := 0; len(m.queue) > 0; steps++ {
		if steps > 10000 {
			m.Fatal("the allocator never comes to rest")
		}
		k := m.queue[0]
		m.queue = slices.DeleteFunc(m.queue, func(other reconcile.Key) bool { return other == k })
		changes, err := New(Config{}).Reconcile(m.v, k)
		if err != nil {
			m.Fatal(err)
		}
		for _, o := range changes.Puts {
			if n, ok := o.(*shoal.Network); ok {
				m.subnets(n)
			}
			m.put(o)
		}
	}
	m.unique()
}

// subnets checks what a network has been given.
func (m *machine) subnets(n *shoal.Network) {
	var had []shoal.Subnet
	if old := m.v.Network(n.ID); old != nil {
		had = old.IPAM
	}
	for _, s := range n.IPAM {
		is := func(other shoal.Subnet) bool { return other.Subnet == s.Subnet }
		p := s.Subnet
		if slices.ContainsFunc(had, is) {
			continue
		}
		if hit := overlapping(p, usedPrefixes(m.v, n.ID)); hit.IsValid() {
			m.Fatalf("network %s is given %s, which overlaps %s", n.ID, p, hit)
		}
		if slices.ContainsFunc(n.Spec.IPAM, is) {
			continue // the user's choice
		}
		if hit := overlapping(p, routes(m.v)); hit.IsValid() {
			m.Fatalf("network %s is given %s, which a node reaches by %s", n.ID, p, hit)
		}
	}
}

// unique checks that every address has one owner, who can use it, and that nobody's changes.
func (m *machine) unique() {
	owner := map[netip.Addr]string{}
	checkOwner := func(who string, given netip.Prefix, n *shoal.Network) {
		if !given.IsValid() {
			return
		}
		addr := given.Addr()
		if other := owner[addr]; other != "" {
			m.Fatalf("%s and %s both have %s", other, who, addr)
		}
		owner[addr] = who
		if n == nil {
			return // who outlives a network keeps its address
		}
		if !slices.ContainsFunc(poolsOf(n), func(p *pool) bool { return p.from.Contains(addr) && p.host(addr) }) {
			m.Fatalf("%s has %s, which network %s cannot give: %+v", who, addr, n.ID, n.IPAM)
		}
	}
	vnis := map[uint32]shoal.NetworkID{}
	for _, n := range m.v.Networks() {
		for _, s := range n.IPAM {
			owner[s.Gateway] = string("the gateway of " + n.ID)
			for name, aux := range s.Aux {
				owner[aux] = name
			}
		}
		if n.VNI != 0 {
			vnis[n.VNI] = n.ID
		}
	}
	for _, s := range m.v.Services() {
		for _, vip := range s.Endpoint.VIPs {
			checkOwner(string(s.ID), vip.Addr, m.v.Network(vip.NetworkID))
			checkOwner(string(s.ID), vip.Addr6, m.v.Network(vip.NetworkID))
		}
	}
	for _, n := range m.v.Nodes() {
		checkOwner(string(n.ID), n.IngressAddr, m.v.IngressNetwork())
		checkOwner(string(n.ID), n.IngressAddr6, m.v.IngressNetwork())
	}
	for _, t := range alive(m.v) {
		for _, at := range t.Networks {
			for _, addr := range at.Addresses {
				checkOwner(string(t.ID), addr, m.v.Network(at.NetworkID))
			}
			if other, ok := vnis[at.VNI]; ok && other != at.NetworkID {
				m.Fatalf("task %s of network %s and network %s are both on %d", t.ID, at.NetworkID, other, at.VNI)
			}
		}
		if now := fmt.Sprint(t.Networks); len(t.Networks) > 0 {
			if was := m.given[string(t.ID)]; was != "" && was != now {
				m.Fatalf("%s had %s and now has %s", t.ID, was, now)
			}
			m.given[string(t.ID)] = now
		}
	}
}

// checkServed checks that who waits does so for a reason.
func (m *machine) checkServed() {
	for _, t := range alive(m.v) {
		if t.Status.State == shoal.TaskNew && t.DesiredState <= shoal.TaskRunning && t.Status.Err == "" {
			m.Fatalf("task %s waits and does not say for what", t.ID)
		}
	}
}

func (m *machine) network(id shoal.NetworkID, ingress bool) *shoal.Network {
	n := overlay(string(id))
	n.Spec.Ingress, n.Spec.EnableIPv6 = ingress, rapid.Bool().Draw(m.T, "ipv6")
	switch rapid.IntRange(0, 5).Draw(m.T, "subnet") {
	case 0: // two managers may let subnets through that overlap
		n.Spec.IPAM = []shoal.Subnet{{Subnet: netip.MustParsePrefix(rapid.SampledFrom([]string{"10.0.0.16/28", "10.9.0.0/29", "10.9.0.0/24"}).Draw(m.T, "which"))}}
	case 1:
		n.Spec.IPAM = []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.8.0.0/24"), Range: netip.MustParsePrefix("10.8.0.128/28"), Gateway: netip.MustParseAddr("10.8.0.130"), Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.8.0.129")}}}
	case 2:
		n.Spec.IPAM = []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.7.0.0/29")}, {Subnet: netip.MustParsePrefix("10.7.0.32/29")}, {Subnet: netip.MustParsePrefix("fd00:7::/64")}}
		n.Spec.EnableIPv6 = true
	}
	return n
}

func (m *machine) createNetwork() { m.change(m.network(shoal.NetworkID(m.name("net")), false)) }

// anyOf draws one of the objects; nil if there is none.
func anyOf[T store.Object](m *machine, all []T) (one T, ok bool) {
	if len(all) == 0 {
		return one, false
	}
	slices.SortFunc(all, func(a, b T) int { return a.Head().CreatedAt.Compare(b.Head().CreatedAt) })
	return rapid.SampledFrom(all).Draw(m.T, "object"), true
}

func (m *machine) removeNetwork() {
	n, ok := anyOf(m, m.v.Networks())
	if !ok || n.Spec.Ingress {
		return
	}
	for _, s := range m.v.Services() {
		if slices.ContainsFunc(s.Spec.AttachedNetworks(), func(a shoal.NetworkAttachmentSpec) bool { return a.Target == string(n.ID) }) {
			return // the API refuses that
		}
	}
	m.remove(n)
}

func (m *machine) replaceIngress() {
	old := m.v.IngressNetwork()
	for _, s := range m.v.Services() {
		if old == nil || s.Spec.Endpoint.HasIngressPort() {
			return
		}
	}
	m.remove(old)
	m.change(m.network(shoal.NetworkID(m.name("ingress")), true))
}

func (m *machine) wishes() []shoal.NetworkAttachmentSpec {
	var out []shoal.NetworkAttachmentSpec
	for range 2 {
		n, ok := anyOf(m, m.v.Networks())
		if ok && !n.Spec.Ingress && !slices.ContainsFunc(out, func(a shoal.NetworkAttachmentSpec) bool { return a.Target == string(n.ID) }) {
			out = append(out, shoal.NetworkAttachmentSpec{Target: string(n.ID)})
		}
	}
	return out
}

func (m *machine) createService() {
	s := &shoal.Service{ID: shoal.ServiceID(m.name("service")), Spec: shoal.ServiceSpec{Endpoint: &shoal.EndpointSpec{}, Task: shoal.TaskSpec{Networks: m.wishes()}}}
	s.Spec.Name = string(s.ID)
	if rapid.Bool().Draw(m.T, "published") {
		s.Spec.Endpoint.Ports = []shoal.Port{{Protocol: shoal.TCP, Target: 80, Mode: shoal.PublishIngress}}
	}
	m.change(s)
}

func (m *machine) removeService() {
	s, ok := anyOf(m, m.v.Services())
	if !ok {
		return
	}
	m.remove(s)
	for _, t := range m.v.TasksOfService(s.ID) { // they live on for a while
		next := *t
		next.DesiredState = shoal.TaskRemove
		m.put(&next)
	}
}

func (m *machine) scaleUp() {
	s, ok := anyOf(m, m.v.Services())
	if !ok {
		return
	}
	for range rapid.IntRange(1, 12).Draw(m.T, "tasks") {
		m.change(&shoal.Task{ID: shoal.TaskID(m.name("task")), ServiceID: s.ID, Spec: s.Spec.Task, EndpointSpec: s.Spec.Endpoint, DesiredState: shoal.TaskRunning})
	}
}

func (m *machine) attach() {
	n, ok := anyOf(m, m.v.Networks())
	if !ok || n.Spec.Ingress {
		return
	}
	asked := rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.8.0.131"), netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("fd00:7::2")}).Draw(m.T, "address")
	m.change(&shoal.Task{ID: shoal.TaskID(m.name("attached")), DesiredState: shoal.TaskRunning, NodeID: "somewhere",
		Spec: shoal.TaskSpec{Attachment: &shoal.AttachmentSpec{Address: asked}, Networks: []shoal.NetworkAttachmentSpec{{Target: string(n.ID)}}}})
}

func (m *machine) endTask() {
	if t, ok := anyOf(m, alive(m.v)); ok {
		next := *t
		next.Status.State = shoal.TaskShutdown
		m.put(&next)
	}
}

func (m *machine) forgetTask() {
	t, ok := anyOf(m, m.v.Tasks())
	if ok && t.Status.State.Ended() {
		m.remove(t)
	}
}

func (m *machine) joinNode() {
	n := &shoal.Node{ID: shoal.NodeID(m.name("node")), Role: rapid.SampledFrom([]shoal.NodeRole{shoal.RoleManager, shoal.RoleWorker}).Draw(m.T, "role")}
	n.Description.Addrs6 = rapid.SampledFrom([][]netip.Addr{nil, {netip.MustParseAddr("2001:db8::1")}}).Draw(m.T, "ipv6")
	for _, route := range rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.32/27", "10.0.0.128/26", "192.168.0.0/16", "10.2.0.64/28", "fd00::/16"}), 0, 2).Draw(m.T, "routes") {
		n.Description.Routes = append(n.Description.Routes, netip.MustParsePrefix(route))
	}
	m.change(n)
}

func (m *machine) leaveNode() {
	if n, ok := anyOf(m, m.v.Nodes()); ok {
		m.remove(n)
	}
}
