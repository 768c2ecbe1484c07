// Package directory is the cluster's table on one node, and what is derived from it by key: for each network the endpoints elsewhere and the
// virtual addresses with their backends, the ports of the routing mesh, the peers to encrypt to, and the DNS records. It reads deltas of
// the table, the peers that are suspected and where this node's own tasks are reached; its Journal keeps the table on disk.
package directory

import (
	"log/slog"
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/names"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Config is what a Directory needs. All of it is required.
type Config struct {
	Log *slog.Logger
	// IPv6 tells whether the kernel has it. If not, what the table says of it is passed over.
	IPv6 bool
	// Records is where the names of services and endpoints are entered.
	Records *names.Records
}

// Directory is the table and what is derived from it. All of it is kept up to date by what changes, so that a change costs what it changes,
// however much else there is. It is guarded by its owner.
type Directory struct {
	log     *slog.Logger
	ipv6    bool
	records *names.Records

	table              shoal.Table // its maps are the directory's own and change
	ingressID          shoal.NetworkID
	tasks              map[shoal.ServiceID]map[shoal.EndpointKey]shoal.Endpoint // the table's endpoints by service and key
	endpointCounts     map[shoal.NodeID]int                                     // how many endpoints each node has
	encryptedEndpoints map[shoal.NodeID]int                                     // how many of them are on encrypted networks

	overlays     map[shoal.NetworkID]*overlay
	ports        dataplane.MeshPorts
	meshNextHops dataplane.NextHops // of tasks of other nodes on the mesh
	routes       map[shoal.ServiceID]serviceRoutes

	suspects   map[shoal.NodeID]bool
	localTasks map[netip.Addr]netip.Addr // where this node's tasks on the mesh are reached, by their ingress addresses
}

// overlay is what is derived for one network.
type overlay struct {
	remotes  dataplane.Remotes
	services dataplane.Services
}

// New makes the directory of an empty table.
func New(c Config) *Directory {
	d := &Directory{log: c.Log, ipv6: c.IPv6, records: c.Records, tasks: map[shoal.ServiceID]map[shoal.EndpointKey]shoal.Endpoint{},
		endpointCounts: map[shoal.NodeID]int{}, encryptedEndpoints: map[shoal.NodeID]int{}, overlays: map[shoal.NetworkID]*overlay{},
		routes: map[shoal.ServiceID]serviceRoutes{}, suspects: map[shoal.NodeID]bool{}, localTasks: map[netip.Addr]netip.Addr{}}
	(&shoal.TableDelta{Full: true}).ApplyTo(&d.table)
	return d
}

// Table is the table in force. Its maps are the directory's own: they must not be changed, and be read only while the directory is guarded.
func (d *Directory) Table() shoal.Table { return d.table }

// Self is this node among the table's peers; the zero value if the table does not have it.
func (d *Directory) Self() shoal.Peer { return d.table.Peers[d.table.NodeID] }

// Find finds a network of the cluster by ID, name or the beginning of an ID.
func (d *Directory) Find(name string) (shoal.Network, bool) {
	if net, ok := d.table.Networks[shoal.NetworkID(name)]; ok {
		return net, true
	}
	for id, net := range d.table.Networks {
		if net.Spec.Name == name || name != "" && strings.HasPrefix(string(id), name) {
			return net, true
		}
	}
	return shoal.Network{}, false
}

// Ingress is the routing mesh's network; false if the table has none.
func (d *Directory) Ingress() (shoal.Network, bool) {
	net, ok := d.table.Networks[d.ingressID]
	return net, ok
}

// Subnets is the subnets of the cluster's networks.
func (d *Directory) Subnets() []netip.Prefix {
	var out []netip.Prefix
	for _, net := range d.table.Networks {
		for _, s := range net.IPAM {
			if s.Subnet.IsValid() {
				out = append(out, s.Subnet)
			}
		}
	}
	return out
}

// DataPathPort is the UDP port of VXLAN.
func (d *Directory) DataPathPort() uint16 {
	if d.table.DataPathPort != 0 {
		return d.table.DataPathPort
	}
	return shoal.DefaultDataPathPort
}

// Remotes is the network's endpoints on other nodes, as far as this node can send to them.
func (d *Directory) Remotes(network shoal.NetworkID) dataplane.Remotes {
	if o := d.overlays[network]; o != nil {
		return o.remotes
	}
	return dataplane.Remotes{}
}

// Services is the virtual addresses on the network.
func (d *Directory) Services(network shoal.NetworkID) dataplane.Services {
	if o := d.overlays[network]; o != nil {
		return o.services
	}
	return dataplane.Services{}
}

// MeshPorts is the ports that are published on the routing mesh.
func (d *Directory) MeshPorts() dataplane.MeshPorts { return d.ports }

// MeshNextHops is the routes to the mesh's tasks on other nodes.
func (d *Directory) MeshNextHops() dataplane.NextHops { return d.meshNextHops }

// ProbeTargets is the peers that this node sends traffic to, which are those that host an endpoint it knows, by the address where they answer probes.
func (d *Directory) ProbeTargets() map[netip.AddrPort]shoal.NodeID {
	out := map[netip.AddrPort]shoal.NodeID{}
	for id := range d.endpointCounts {
		if peer := d.table.Peers[id]; id != d.table.NodeID && peer.ProbeAddr.IsValid() {
			out[peer.ProbeAddr] = id
		}
	}
	return out
}
