package allocator

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Dynamic published ports.
const (
	firstPort = 30000
	lastPort  = 32767
)

// allocation is the working state of one Reconcile call. The addresses of each network are derived from the view only once.
type allocation struct {
	view      store.View
	addresses map[shoal.NetworkID]*addresses
	changes   store.Changes
}

func newAllocation(v store.View) *allocation {
	return &allocation{view: v, addresses: map[shoal.NetworkID]*addresses{}}
}

func (a *allocation) of(n *shoal.Network) *addresses {
	if a.addresses[n.ID] == nil {
		a.addresses[n.ID] = newAddresses(a.view, n)
	}
	return a.addresses[n.ID]
}

// allocate gives out an IPv4 or IPv6 address of a network. A network without a free IPv4 address gets a further subnet, unless the
// user has chosen its subnets.
func (a *allocation) allocate(n *shoal.Network, is4 bool) (netip.Prefix, error) {
	free := a.of(n)
	given, err := free.allocate(is4)
	if err == nil || !is4 || len(n.IPAM) == 0 || !mayGrow(n) {
		return given, err
	}
	grown := *a.view.Network(n.ID)
	further, err := freeSubnet(a.view, grown.IPAM)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%w, nor a further subnet", errFull)
	}
	subnet := withGateway(shoal.Subnet{Subnet: further})
	grown.IPAM = append(slices.Clone(grown.IPAM), subnet)
	more := store.Changes{Puts: []store.Object{&grown}}
	a.view = a.view.With(more)
	a.changes.Merge(more)
	free.pools = append(free.pools, poolOf(subnet))
	free.markUsed(subnet.Gateway, time.Time{})
	return free.allocate(is4)
}

// allocateBoth gives out an address of each family that the network has, IPv4 first. If asked is valid, the address of its family
// is that one, or there is an error.
func (a *allocation) allocateBoth(n *shoal.Network, asked netip.Addr) ([]netip.Prefix, error) {
	var given []netip.Prefix
	for _, is4 := range []bool{true, false} {
		var addr netip.Prefix
		var err error
		switch {
		case asked.IsValid() && asked.Is4() == is4:
			addr, err = a.of(n).allocateRequested(asked)
		case is4 || hasIPv6(n.IPAM):
			addr, err = a.allocate(n, is4)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("failed to allocate network IP for the task: %w on network %s", err, n.Spec.Name)
		}
		given = append(given, addr)
	}
	return given, nil
}

// service gives a service its ports and virtual addresses and, when it has them, its new tasks theirs.
func service(v store.View, id shoal.ServiceID) store.Changes {
	s := v.Service(id)
	a := newAllocation(v)
	if s == nil {
		return a.changes
	}
	endpoint, err := a.endpoint(s)
	if err == nil && !reflect.DeepEqual(withoutEmpty(endpoint), withoutEmpty(s.Endpoint)) {
		next := *s
		next.Endpoint = endpoint
		a.changes.Put(&next)
		s = &next
	}
	for _, t := range v.TasksOfService(id) {
		if t.Status.State == shoal.TaskNew && t.Wanted() {
			a.task(t, s, err)
		}
	}
	return a.changes
}

// withoutEmpty replaces empty lists by nil, so that an endpoint that was decoded from JSON equals one that was not.
func withoutEmpty(e shoal.ServiceEndpoint) shoal.ServiceEndpoint {
	if len(e.Ports) == 0 {
		e.Ports = nil
	}
	if len(e.VIPs) == 0 {
		e.VIPs = nil
	}
	return e
}

// endpoint is what the service's endpoint should be. Ports and addresses that the service already has are kept where possible.
func (a *allocation) endpoint(s *shoal.Service) (shoal.ServiceEndpoint, error) {
	e := shoal.ServiceEndpoint{Spec: s.Spec.Endpoint}
	ports, err := a.ports(s)
	if err != nil {
		return e, err
	}
	e.Ports = ports
	if s.Spec.Endpoint != nil && s.Spec.Endpoint.Mode == shoal.ResolveDNSRR {
		return e, nil
	}
	networks, err := networksOf(a.view, s.Spec.AttachedNetworks(), s.Spec.Endpoint)
	if err != nil {
		return e, err
	}
	for _, n := range networks {
		vip := shoal.VIP{NetworkID: n.ID}
		if at := slices.IndexFunc(s.Endpoint.VIPs, func(vip shoal.VIP) bool { return vip.NetworkID == n.ID }); at >= 0 {
			vip = s.Endpoint.VIPs[at]
		}
		if vip, err = a.vip(n, vip); err != nil {
			return e, fmt.Errorf("%w while allocating VIP on network %s", err, n.Spec.Name)
		}
		e.VIPs = append(e.VIPs, vip)
	}
	return e, nil
}

// vip completes a service's addresses on a network, with those kept that are still the network's.
func (a *allocation) vip(n *shoal.Network, vip shoal.VIP) (shoal.VIP, error) {
	var err error
	if !contains(n, vip.Addr) {
		vip.Addr, err = a.allocate(n, true)
	}
	if err == nil && hasIPv6(n.IPAM) && !contains(n, vip.Addr6) {
		vip.Addr6, err = a.allocate(n, false)
	}
	return vip, err
}

// networksOf is the overlay networks that a service's tasks are on: ingress first if it publishes a port there, then those it
// asks for. The error says which of them has no subnet yet.
func networksOf(v store.View, attached []shoal.NetworkAttachmentSpec, spec *shoal.EndpointSpec) ([]*shoal.Network, error) {
	var all []*shoal.Network
	if spec.HasIngressPort() {
		ingress := v.IngressNetwork()
		if ingress == nil {
			return nil, fmt.Errorf("no ingress network is present")
		}
		all = append(all, ingress)
	}
	for _, a := range attached {
		n := v.Network(shoal.NetworkID(a.Target))
		if n == nil {
			// host, bridge and the like belong to each node.
			continue
		}
		if n.Spec.Driver == "" || n.Spec.Driver == shoal.DriverOverlay {
			all = append(all, n)
		}
	}
	for _, n := range all {
		if len(n.IPAM) == 0 {
			return nil, fmt.Errorf("network %s is not allocated: %s", n.Spec.Name, n.Err)
		}
	}
	return all, nil
}

// ports completes the published ports: those without a number keep the one they have, or get a free one.
func (a *allocation) ports(s *shoal.Service) ([]shoal.Port, error) {
	if s.Spec.Endpoint == nil {
		return nil, nil
	}
	if err := CheckPorts(a.view, s.ID, s.Spec.Endpoint); err != nil {
		return nil, err
	}
	used := map[portKey]bool{}
	for _, other := range a.view.Services() {
		for _, p := range append(slices.Clone(other.Endpoint.Ports), specPorts(other)...) {
			if other.ID != s.ID && p.Mode == shoal.PublishIngress {
				used[portKey{p.Protocol, p.Published}] = true
			}
		}
	}
	for _, p := range s.Spec.Endpoint.Ports {
		used[portKey{p.Protocol, p.Published}] = true
	}
	kept := slices.Clone(s.Endpoint.Ports)
	ports := slices.Clone(s.Spec.Endpoint.Ports)
	for i, p := range ports {
		if p.Published != 0 || p.Mode != shoal.PublishIngress {
			continue
		}
		at := slices.IndexFunc(kept, func(old shoal.Port) bool {
			return old.Target == p.Target && old.Protocol == p.Protocol && old.Mode == p.Mode && old.Published >= firstPort &&
				!used[portKey{old.Protocol, old.Published}]
		})
		if at >= 0 {
			ports[i].Published = kept[at].Published
		} else {
			for free := uint16(firstPort); free <= lastPort; free++ {
				if !used[portKey{p.Protocol, free}] {
					ports[i].Published = free
					break
				}
			}
		}
		if ports[i].Published == 0 {
			return nil, fmt.Errorf("no dynamic port is left")
		}
		used[portKey{p.Protocol, ports[i].Published}] = true
	}
	return ports, nil
}

type portKey struct {
	protocol shoal.Protocol
	port     uint16
}

func specPorts(s *shoal.Service) []shoal.Port {
	if s.Spec.Endpoint == nil {
		return nil
	}
	return s.Spec.Endpoint.Ports
}

// CheckPorts refuses published ports that another service than self has, in Docker's words. Of two services that ask for
// one port at once, the older has it.
func CheckPorts(v store.View, self shoal.ServiceID, spec *shoal.EndpointSpec) error {
	if spec == nil {
		return nil
	}
	mine := v.Service(self)
	for _, other := range v.Services() {
		if other.ID == self {
			continue
		}
		othersPorts := slices.Clone(other.Endpoint.Ports)
		if mine == nil || older(other, mine) {
			othersPorts = append(othersPorts, specPorts(other)...)
		}
		for _, p := range spec.Ports {
			alreadyOwned := mine != nil && slices.Contains(mine.Endpoint.Ports, p)
			for _, q := range othersPorts {
				if !alreadyOwned && portsConflict(p, q) {
					return shoal.InvalidArgument("port '%d' is already in use by service '%s' (%s) as %s port",
						p.Published, other.Spec.Name, other.ID, modeName(q.Mode))
				}
			}
		}
	}
	return nil
}

func older(a, b *shoal.Service) bool {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) < 0
}

// portsConflict tells whether two services cannot both publish their ports. Equal host-mode ports do not conflict, because they may
// be on different nodes.
func portsConflict(p, q shoal.Port) bool {
	return p.Published != 0 && p.Published == q.Published && p.Protocol == q.Protocol &&
		(p.Mode != shoal.PublishHost || q.Mode != shoal.PublishHost)
}

func modeName(m shoal.PublishMode) string {
	if m == shoal.PublishHost {
		return "a host-published"
	}
	return "an ingress"
}

// task gives a new task its addresses and hands it on to the scheduler; a reason why not is shown to the user.
func (a *allocation) task(t *shoal.Task, s *shoal.Service, err error) {
	next := *t
	var networks []*shoal.Network
	if err == nil {
		networks, err = networksOf(a.view, t.Spec.Networks, t.EndpointSpec)
	}
	if err == nil {
		next.Networks, err = a.attach(networks, t.Spec.Networks, netip.Addr{})
	}
	if err != nil {
		if t.Status.Err == err.Error() {
			return
		}
		next.Networks = nil
		next.Status.Err = err.Error()
		a.changes.Put(&next)
		return
	}
	for _, p := range specPorts(s) {
		if p.Mode == shoal.PublishHost {
			next.Ports = append(next.Ports, p)
		}
	}
	next.Status = shoal.TaskStatus{State: shoal.TaskPending, Timestamp: a.view.Now().UTC(), Message: t.Status.WithMessage("pending task scheduling").Message}
	a.changes.Put(&next)
}

// attach gives an endpoint on each network. An address can be asked for where there is one network only.
func (a *allocation) attach(networks []*shoal.Network, asked []shoal.NetworkAttachmentSpec, address netip.Addr) ([]shoal.TaskNetwork, error) {
	var all []shoal.TaskNetwork
	for _, n := range networks {
		given, err := a.allocateBoth(n, address)
		if err != nil {
			return nil, err
		}
		at := shoal.TaskNetwork{NetworkID: n.ID, VNI: n.VNI, Addresses: given}
		for _, a := range asked {
			if a.Target == string(n.ID) {
				at.Aliases = a.Aliases
			}
		}
		all = append(all, at)
	}
	return all, nil
}

// attachment gives a container that is no task its address on the network that it is attached to. Its node is known, so it
// goes straight to Assigned.
func attachment(v store.View, id shoal.TaskID) store.Changes {
	t := v.Task(id)
	a := newAllocation(v)
	if t == nil || t.Spec.Attachment == nil || t.Status.State != shoal.TaskNew {
		return a.changes
	}
	next := *t
	networks, err := networksOf(v, t.Spec.Networks, nil)
	if err == nil {
		next.Networks, err = a.attach(networks, t.Spec.Networks, t.Spec.Attachment.Address)
	}
	if err != nil {
		if t.Status.Err == err.Error() {
			return a.changes
		}
		next.Networks, next.Status.Err = nil, err.Error()
	} else {
		next.Status = shoal.TaskStatus{State: shoal.TaskAssigned, Timestamp: v.Now().UTC(), Message: "network attachment allocated"}
	}
	a.changes.Put(&next)
	return a.changes
}
