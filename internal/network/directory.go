package network

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// directory is the cluster's table, and what is derived from it for the kernel and the resolvers. All of it is kept up to date by what
// changes, so that a change costs what it changes, however much else there is.
type directory struct {
	log   *slog.Logger
	ipv6  bool        // the kernel has it; if not, what the table says of it is passed over
	table shoal.Table // its maps are the directory's own and change
	// mesh is the ID of the ingress network.
	ingressNetworkID   shoal.NetworkID
	tasks              map[shoal.ServiceID]map[shoal.EndpointKey]shoal.Endpoint // the table's endpoints by service and key
	endpointCounts     map[shoal.NodeID]int                                     // how many endpoints each node has
	encryptedEndpoints map[shoal.NodeID]int                                     // how many of them are on encrypted networks

	overlays        map[shoal.NetworkID]*overlay
	ports           dataplane.MeshPorts
	meshNextHops    dataplane.NextHops // of tasks of other nodes on the mesh
	derivedServices map[shoal.ServiceID]serviceRoutes

	suspects map[shoal.NodeID]bool
	// locals is where this node's tasks on the mesh are reached, by their ingress addresses.
	localTasks map[netip.Addr]netip.Addr
	records    *dnsRecords
}

// overlay is what is derived for one network.
type overlay struct {
	remotes  dataplane.Remotes
	services dataplane.Services
}

// serviceRoutes is the virtual addresses and published ports that were derived from a service.
type serviceRoutes struct {
	vips  map[shoal.NetworkID][]netip.Addr // by network
	ports []dataplane.PortKey
}

func newDirectory(ipv6 bool) directory {
	d := directory{log: slog.New(slog.DiscardHandler), ipv6: ipv6, tasks: map[shoal.ServiceID]map[shoal.EndpointKey]shoal.Endpoint{}, endpointCounts: map[shoal.NodeID]int{}, encryptedEndpoints: map[shoal.NodeID]int{}, overlays: map[shoal.NetworkID]*overlay{},
		derivedServices: map[shoal.ServiceID]serviceRoutes{}, suspects: map[shoal.NodeID]bool{}, localTasks: map[netip.Addr]netip.Addr{}, records: newDNSRecords()}
	(&shoal.TableDelta{Full: true}).ApplyTo(&d.table)
	return d
}

// update takes in a delta that is not full.
func (d *directory) update(delta *shoal.TableDelta) {
	// What is derived from an endpoint depends on peers and networks. They change rarely; then everything is derived again.
	all := delta.NodeID != d.table.NodeID || len(delta.Networks)+len(delta.RemovedNetworks)+len(delta.Peers)+len(delta.RemovedPeers) > 0
	changed, services := map[shoal.EndpointKey]bool{}, map[shoal.ServiceID]bool{}
	markKeys(changed, delta.Endpoints, delta.RemovedEndpoints)
	markKeys(services, delta.Services, delta.RemovedServices)
	if all {
		markKeys(changed, d.table.Endpoints, nil)
		markKeys(services, d.table.Services, nil)
	}
	for key := range changed {
		d.retractEndpoint(key, services)
	}
	delta.ApplyTo(&d.table)
	if all {
		d.findIngressNetwork()
	}
	for key := range changed {
		d.deriveEndpoint(key, services)
	}
	d.renameTasks(delta)
	for id := range services {
		d.retractService(id)
	}
	for id := range services {
		d.deriveService(id)
	}
}

// renameTasks updates the DNS records of the tasks of services that have changed, as the service's name and aliases are part of them.
func (d *directory) renameTasks(delta *shoal.TableDelta) {
	services := map[shoal.ServiceID]bool{}
	markKeys(services, delta.Services, delta.RemovedServices)
	for id := range services {
		for key, e := range d.tasks[id] {
			d.records.set("endpoint "+string(key), d.endpointRecords(e, d.table.Services[id]))
		}
	}
}

// removedOnSuspects returns the addresses that a delta will remove and whose nodes do not answer, so cannot close connections themselves. They are by network,
// those on the mesh under "".
func (d *directory) removedOnSuspects(delta *shoal.TableDelta) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, key := range delta.RemovedEndpoints {
		e, ok := d.table.Endpoints[key]
		if !ok || !d.suspects[e.NodeID] {
			continue
		}
		network := e.NetworkID
		if network == d.ingressNetworkID {
			network = ""
		}
		out[string(network)] = append(out[string(network)], d.addrsOf(e.Addr, e.Addr6)...)
	}
	return out
}

func markKeys[K comparable, V any](marked map[K]bool, put map[K]V, removed []K) {
	for key := range put {
		marked[key] = true
	}
	for _, key := range removed {
		marked[key] = true
	}
}

func (d *directory) findIngressNetwork() {
	d.ingressNetworkID = ""
	for id, net := range d.table.Networks {
		if net.Spec.Ingress {
			d.ingressNetworkID = id
		}
	}
}

// derivedFor is what is derived for the network, which may be nothing.
func (d *directory) derivedFor(network shoal.NetworkID) overlay {
	if o := d.overlays[network]; o != nil {
		return *o
	}
	return overlay{}
}

func (d *directory) overlay(network shoal.NetworkID) *overlay {
	o := d.overlays[network]
	if o == nil {
		o = &overlay{}
		d.overlays[network] = o
	}
	return o
}

// addrsOf returns the addresses, without the IPv6 one if the node's kernel has no IPv6.
func (d *directory) addrsOf(prefix, prefix6 netip.Prefix) []netip.Addr {
	if !d.ipv6 {
		prefix6 = netip.Prefix{}
	}
	return addrsOf(prefix, prefix6)
}

// addrsOf leaves out what is not valid.
func addrsOf(prefixes ...netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// retractEndpoint removes what was derived from an endpoint, and adds its service to services, those to derive again.
func (d *directory) retractEndpoint(key shoal.EndpointKey, services map[shoal.ServiceID]bool) {
	e, ok := d.table.Endpoints[key]
	if !ok {
		return
	}
	o := d.overlay(e.NetworkID)
	for _, a := range d.addrsOf(e.Addr, e.Addr6) {
		o.remotes, d.meshNextHops = o.remotes.Delete(a), d.meshNextHops.Delete(a)
	}
	if d.endpointCounts[e.NodeID]--; d.endpointCounts[e.NodeID] == 0 {
		delete(d.endpointCounts, e.NodeID)
	}
	if e.ServiceID != "" {
		services[e.ServiceID] = true
		delete(d.tasks[e.ServiceID], key)
	}
	d.countEncrypted(e, -1)
	d.records.set("endpoint "+string(key), nil)
	if o.remotes.Len()+o.services.Len() == 0 {
		delete(d.overlays, e.NetworkID)
	}
}

// deriveEndpoint adds what follows from an endpoint, and adds its service to services, those to derive again.
func (d *directory) deriveEndpoint(key shoal.EndpointKey, services map[shoal.ServiceID]bool) {
	e, ok := d.table.Endpoints[key]
	if !ok {
		return
	}
	peer := d.table.Peers[e.NodeID]
	o, vtep := d.overlay(e.NetworkID), d.vtep(e.NetworkID, peer)
	mac, err := cmp.Or(e.MAC, shoal.MACFor(e.Addr.Addr())), e.MAC.Err()
	if err != nil { // the others on its network are reached
		d.log.Warn("endpoint in the table has no valid MAC, this node sends it nothing", "network", e.NetworkID, "node", e.NodeID, "address", e.Addr, "err", err)
	}
	remote := e.NodeID != d.table.NodeID && vtep.IsValid() && err == nil
	for _, a := range d.addrsOf(e.Addr, e.Addr6) {
		if remote {
			o.remotes = o.remotes.Set(a, dataplane.Remote{MAC: mac, VTEP: vtep})
		}
		via := peer.IngressAddr
		if a.Is6() {
			via = peer.IngressAddr6
		}
		if e.NetworkID == d.ingressNetworkID && e.NodeID != d.table.NodeID && via.IsValid() {
			d.meshNextHops = d.meshNextHops.Set(a, via)
		}
	}
	d.endpointCounts[e.NodeID]++
	d.countEncrypted(e, 1)
	if e.ServiceID != "" {
		if d.tasks[e.ServiceID] == nil {
			d.tasks[e.ServiceID] = map[shoal.EndpointKey]shoal.Endpoint{}
		}
		services[e.ServiceID] = true
		d.tasks[e.ServiceID][key] = e
	}
	d.records.set("endpoint "+string(key), d.endpointRecords(e, d.table.Services[e.ServiceID]))
}

// retractService removes the virtual addresses and ports that a service no longer has.
func (d *directory) retractService(id shoal.ServiceID) {
	old, now := d.derivedServices[id], d.serviceRoutesOf(id)
	for network, vips := range old.vips {
		o := d.overlay(network)
		for _, vip := range vips {
			if !slices.Contains(now.vips[network], vip) {
				o.services = o.services.Delete(vip)
			}
		}
	}
	for _, port := range old.ports {
		if !slices.Contains(now.ports, port) {
			d.ports = d.ports.Delete(port)
		}
	}
	delete(d.derivedServices, id)
	if len(d.tasks[id]) == 0 {
		delete(d.tasks, id)
	}
}

func (d *directory) serviceRoutesOf(id shoal.ServiceID) serviceRoutes {
	s := d.table.Services[id]
	e := serviceRoutes{vips: map[shoal.NetworkID][]netip.Addr{}}
	for network, vip := range s.VIPs {
		e.vips[network] = d.addrsOf(vip, s.VIPs6[network])
	}
	for _, p := range s.Ports {
		if p.Mode != shoal.PublishHost && p.Published != 0 {
			e.ports = append(e.ports, dataplane.PortKey{Protocol: p.Protocol, Port: p.Published})
		}
	}
	return e
}

// deriveService derives where connections to the service go now, and what it is called.
func (d *directory) deriveService(id shoal.ServiceID) {
	s, ok := d.table.Services[id]
	if !ok {
		d.records.set("service "+string(id), nil)
		return
	}
	d.records.set("service "+string(id), d.serviceRecords(s))
	e := d.serviceRoutesOf(id)
	for network, vips := range e.vips {
		backends := d.backends(id, network)
		for _, vip := range vips {
			d.setVIP(network, vip, backends)
		}
	}
	backends := d.backends(id, d.ingressNetworkID)
	for _, p := range s.Ports {
		if p.Mode != shoal.PublishHost && p.Published != 0 {
			d.setPort(p, backends)
		}
	}
	d.derivedServices[id] = e
}

func (d *directory) setVIP(network shoal.NetworkID, vip netip.Addr, backends []shoal.Endpoint) {
	v := &dataplane.VIP{Addr: vip}
	for _, e := range backends {
		for _, a := range d.addrsOf(e.Addr, e.Addr6) {
			if a.Is4() == vip.Is4() {
				v.Backends = append(v.Backends, a)
			}
		}
	}
	o := d.overlay(network)
	if was, ok := o.services.Get(vip); !ok || !slices.Equal(was.Backends, v.Backends) {
		o.services = o.services.Set(vip, v)
	}
}

func (d *directory) setPort(port shoal.MeshPort, backends []shoal.Endpoint) {
	key, p := dataplane.PortKey{Protocol: port.Protocol, Port: port.Published}, &dataplane.MeshPort{Rule: port.Rule}
	for _, e := range backends {
		for _, a := range d.addrsOf(e.Addr, e.Addr6) {
			if e.NodeID == d.table.NodeID {
				a = d.localTasks[a] // invalid while the task has no sandbox here
			}
			if a.IsValid() {
				p.Backends = append(p.Backends, dataplane.Backend{Addr: a, Port: port.Target})
			}
		}
	}
	if was, ok := d.ports.Get(key); !ok || !reflect.DeepEqual(was, p) {
		d.ports = d.ports.Set(key, p)
	}
}

// backends is where new connections to the service may go on the network, in the order of addresses: its ready endpoints, without those
// on nodes that do not answer, unless none would be left.
func (d *directory) backends(service shoal.ServiceID, network shoal.NetworkID) []shoal.Endpoint {
	var all, trusted []shoal.Endpoint
	for _, e := range d.tasks[service] {
		if e.NetworkID != network || e.State != shoal.EndpointReady || !e.Addr.IsValid() {
			continue
		}
		all = append(all, e)
		if !d.suspects[e.NodeID] {
			trusted = append(trusted, e)
		}
	}
	if len(trusted) > 0 {
		all = trusted
	}
	slices.SortFunc(all, func(a, b shoal.Endpoint) int { return a.Addr.Addr().Compare(b.Addr.Addr()) })
	return all
}

// suspect replaces the set of suspected peers and derives the services with tasks on peers that changed.
func (d *directory) suspect(suspects map[shoal.NodeID]bool) {
	before := d.suspects
	d.suspects = suspects
	for id, tasks := range d.tasks {
		for _, e := range tasks {
			if before[e.NodeID] != suspects[e.NodeID] {
				d.deriveService(id)
				break
			}
		}
	}
}

// setLocalTasks says where this node's tasks on the mesh are reached.
func (d *directory) setLocalTasks(localTasks map[netip.Addr]netip.Addr) {
	if maps.Equal(d.localTasks, localTasks) {
		return
	}
	before := d.localTasks
	d.localTasks = localTasks
	for id, tasks := range d.tasks {
		for _, e := range tasks {
			if a := e.Addr.Addr(); e.NodeID == d.table.NodeID && e.NetworkID == d.ingressNetworkID && before[a] != localTasks[a] {
				d.deriveService(id)
				break
			}
		}
	}
}
