package network

import (
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
	mesh  shoal.NetworkID
	tasks map[shoal.ServiceID]map[shoal.EndpointKey]shoal.Endpoint // the table's endpoints by service and key
	hosts map[shoal.NodeID]int                                     // how many endpoints each node has
	wired map[shoal.NodeID]int                                     // how many of them are on encrypted networks

	overlays map[shoal.NetworkID]*overlay
	ports    dataplane.MeshPorts
	vias     dataplane.NextHops // of tasks of other nodes on the mesh
	written  map[shoal.ServiceID]entry

	suspects map[shoal.NodeID]bool
	// locals is where this node's tasks on the mesh are reached, by their ingress addresses.
	locals map[netip.Addr]netip.Addr
	names  *names
}

// overlay is what is derived for one network.
type overlay struct {
	remotes  dataplane.Remotes
	services dataplane.Services
}

// entry is what a service's derivation has written.
type entry struct {
	vips  map[shoal.NetworkID][]netip.Addr // by network
	ports []dataplane.PortKey
}

func newDirectory(ipv6 bool) directory {
	d := directory{log: slog.New(slog.DiscardHandler), ipv6: ipv6, tasks: map[shoal.ServiceID]map[shoal.EndpointKey]shoal.Endpoint{}, hosts: map[shoal.NodeID]int{}, wired: map[shoal.NodeID]int{}, overlays: map[shoal.NetworkID]*overlay{},
		written: map[shoal.ServiceID]entry{}, suspects: map[shoal.NodeID]bool{}, locals: map[netip.Addr]netip.Addr{}, names: newNames()}
	(&shoal.TableDelta{Full: true}).ApplyTo(&d.table)
	return d
}

// update takes in a delta that is not full.
func (d *directory) update(delta *shoal.TableDelta) {
	// What an endpoint means depends on the peers and networks: they change rarely, and then all is gone through.
	all := delta.NodeID != d.table.NodeID || len(delta.Networks)+len(delta.RemovedNetworks)+len(delta.Peers)+len(delta.RemovedPeers) > 0
	changed, services := map[shoal.EndpointKey]bool{}, map[shoal.ServiceID]bool{}
	mark(changed, delta.Endpoints, delta.RemovedEndpoints)
	mark(services, delta.Services, delta.RemovedServices)
	if all {
		mark(changed, d.table.Endpoints, nil)
		mark(services, d.table.Services, nil)
	}
	for key := range changed {
		d.withdraw(key, services)
	}
	delta.ApplyTo(&d.table)
	if all {
		d.findMesh()
	}
	for key := range changed {
		d.enter(key, services)
	}
	d.rename(delta)
	for id := range services {
		d.withdrawService(id)
	}
	for id := range services {
		d.enterService(id)
	}
}

// rename gives the tasks of services that have changed the names that they now stand for.
func (d *directory) rename(delta *shoal.TableDelta) {
	services := map[shoal.ServiceID]bool{}
	mark(services, delta.Services, delta.RemovedServices)
	for id := range services {
		for key, e := range d.tasks[id] {
			d.names.set("endpoint "+string(key), d.endpointNames(e, d.table.Services[id]))
		}
	}
}

// dead is the addresses that a delta will remove and whose nodes do not answer: nobody there has told their clients. They are by network,
// those on the mesh under "".
func (d *directory) dead(delta *shoal.TableDelta) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, key := range delta.RemovedEndpoints {
		e, ok := d.table.Endpoints[key]
		if !ok || !d.suspects[e.NodeID] {
			continue
		}
		network := e.NetworkID
		if network == d.mesh {
			network = ""
		}
		out[string(network)] = append(out[string(network)], d.addrsOf(e.Addr, e.Addr6)...)
	}
	return out
}

func mark[K comparable, V any](marked map[K]bool, put map[K]V, removed []K) {
	for key := range put {
		marked[key] = true
	}
	for _, key := range removed {
		marked[key] = true
	}
}

func (d *directory) findMesh() {
	d.mesh = ""
	for id, net := range d.table.Networks {
		if net.Spec.Ingress {
			d.mesh = id
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

// addrsOf is the addresses that the node's kernel knows the family of.
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

// withdraw takes back what an endpoint meant, and marks its service.
func (d *directory) withdraw(key shoal.EndpointKey, services map[shoal.ServiceID]bool) {
	e, ok := d.table.Endpoints[key]
	if !ok {
		return
	}
	o := d.overlay(e.NetworkID)
	for _, a := range d.addrsOf(e.Addr, e.Addr6) {
		o.remotes, d.vias = o.remotes.Delete(a), d.vias.Delete(a)
	}
	if d.hosts[e.NodeID]--; d.hosts[e.NodeID] == 0 {
		delete(d.hosts, e.NodeID)
	}
	if e.ServiceID != "" {
		services[e.ServiceID] = true
		delete(d.tasks[e.ServiceID], key)
	}
	d.countWired(e, -1)
	d.names.set("endpoint "+string(key), nil)
	if o.remotes.Len()+o.services.Len() == 0 {
		delete(d.overlays, e.NetworkID)
	}
}

// enter derives what an endpoint means, and marks its service.
func (d *directory) enter(key shoal.EndpointKey, services map[shoal.ServiceID]bool) {
	e, ok := d.table.Endpoints[key]
	if !ok {
		return
	}
	peer := d.table.Peers[e.NodeID]
	o, vtep := d.overlay(e.NetworkID), d.vtep(e.NetworkID, peer)
	mac, err := macOf(e)
	if err != nil {
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
		if e.NetworkID == d.mesh && e.NodeID != d.table.NodeID && via.IsValid() {
			d.vias = d.vias.Set(a, via)
		}
	}
	d.hosts[e.NodeID]++
	d.countWired(e, 1)
	if e.ServiceID != "" {
		if d.tasks[e.ServiceID] == nil {
			d.tasks[e.ServiceID] = map[shoal.EndpointKey]shoal.Endpoint{}
		}
		services[e.ServiceID] = true
		d.tasks[e.ServiceID][key] = e
	}
	d.names.set("endpoint "+string(key), d.endpointNames(e, d.table.Services[e.ServiceID]))
}

// macOf is the endpoint's MAC: the one in the table, or else the one that follows from its address. An endpoint whose MAC cannot be read is not
// reached from this node; the others on its network are.
func macOf(e shoal.Endpoint) (dataplane.MAC, error) {
	if e.MAC != "" {
		return dataplane.ParseMAC(e.MAC)
	}
	return dataplane.MACFor(e.Addr.Addr()), nil
}

// withdrawService takes back the addresses and ports that a service has no more.
func (d *directory) withdrawService(id shoal.ServiceID) {
	old, now := d.written[id], d.entryOf(id)
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
	delete(d.written, id)
	if len(d.tasks[id]) == 0 {
		delete(d.tasks, id)
	}
}

func (d *directory) entryOf(id shoal.ServiceID) entry {
	s := d.table.Services[id]
	e := entry{vips: map[shoal.NetworkID][]netip.Addr{}}
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

// enterService derives where connections to the service go now, and what it is called.
func (d *directory) enterService(id shoal.ServiceID) {
	s, ok := d.table.Services[id]
	if !ok {
		d.names.set("service "+string(id), nil)
		return
	}
	d.names.set("service "+string(id), d.serviceNames(s))
	e := d.entryOf(id)
	for network, vips := range e.vips {
		backends := d.backends(id, network)
		for _, vip := range vips {
			d.setVIP(network, vip, backends)
		}
	}
	backends := d.backends(id, d.mesh)
	for _, p := range s.Ports {
		if p.Mode != shoal.PublishHost && p.Published != 0 {
			d.setPort(p, backends)
		}
	}
	d.written[id] = e
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
				a = d.locals[a] // invalid while the task has no sandbox here
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

// suspect puts a new set of suspects into force.
func (d *directory) suspect(suspects map[shoal.NodeID]bool) {
	before := d.suspects
	d.suspects = suspects
	for id, tasks := range d.tasks {
		for _, e := range tasks {
			if before[e.NodeID] != suspects[e.NodeID] {
				d.enterService(id)
				break
			}
		}
	}
}

// setLocals says where this node's tasks on the mesh are reached.
func (d *directory) setLocals(locals map[netip.Addr]netip.Addr) {
	if maps.Equal(d.locals, locals) {
		return
	}
	before := d.locals
	d.locals = locals
	for id, tasks := range d.tasks {
		for _, e := range tasks {
			if a := e.Addr.Addr(); e.NodeID == d.table.NodeID && e.NetworkID == d.mesh && before[a] != locals[a] {
				d.enterService(id)
				break
			}
		}
	}
}
