package network

import (
	"cmp"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// planLocked derives all that the kernel should have.
func (n *Networks) planLocked() *dataplane.Config {
	c := &dataplane.Config{Bridges: map[string]*dataplane.Bridge{}, Overlays: map[string]*dataplane.Overlay{}, Sandboxes: map[string]*dataplane.Sandbox{}}
	for _, l := range n.locals {
		if l.pool == nil || l.Spec.Driver != shoal.DriverBridge {
			continue
		}
		mtu, _ := strconv.Atoi(l.Spec.Options[shoal.OptionMTU]) // 0, the default, if it is not set
		c.Bridges[l.bridge()] = &dataplane.Bridge{Name: l.bridge(), Gateway: l.gateway(), MTU: mtu, Internal: l.Spec.Internal,
			NoICC: !l.option(optionICC, true), Masquerade: l.option(optionMasquerade, true)}
	}
	self := n.table.Peers[n.table.NodeID]
	vips := map[shoal.ID][]dataplane.VIP{}
	for id, net := range n.clusterNetworksLocked() {
		if net.Spec.Ingress || net.VNI == 0 || !self.DataAddr.IsValid() {
			continue
		}
		mtu, _ := strconv.Atoi(net.Spec.Options[shoal.OptionMTU])
		c.Overlays[id] = &dataplane.Overlay{ID: id, VNI: net.VNI, Port: n.tunnelPort(), Local: self.DataAddr, MTU: mtu, Remotes: n.remotesLocked(id)}
		vips[id] = n.vipsLocked(id)
	}
	for id, b := range n.boxes {
		if b.planned {
			c.Sandboxes[namespaceOf(id)] = n.planBox(b, c, vips)
			c.Ports = append(c.Ports, publishedBy(b)...)
		}
	}
	n.holdIngressLocked()
	n.planIngressLocked(c)
	slices.SortFunc(c.Ports, func(a, b dataplane.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), a.HostIP.Compare(b.HostIP))
	})
	return c
}

// clusterNetworksLocked is the table's networks, and those of endpoints that are still up: while attachments come and go quickly, a
// table without the network may arrive after the next attachment was granted.
func (n *Networks) clusterNetworksLocked() map[shoal.ID]shoal.Network {
	all := maps.Clone(n.table.Networks)
	taken := map[uint32]bool{}
	for _, net := range all {
		taken[net.VNI] = true
	}
	for _, b := range n.boxes {
		for _, e := range b.Endpoints {
			if e.Network == nil || taken[e.Network.VNI] {
				continue // the table has it, or has given its number to another
			}
			if all == nil {
				all = map[shoal.ID]shoal.Network{}
			}
			all[e.Overlay], taken[e.Network.VNI] = *e.Network, true
		}
	}
	return all
}

func (n *Networks) tunnelPort() uint16 {
	if n.table.DataPathPort != 0 {
		return n.table.DataPathPort
	}
	return shoal.DefaultDataPathPort
}

func (n *Networks) remotesLocked(network shoal.ID) map[netip.Addr]dataplane.Remote {
	out := map[netip.Addr]dataplane.Remote{}
	for _, e := range n.table.Endpoints {
		peer := n.table.Peers[e.NodeID]
		if e.NetworkID != network || e.NodeID == n.table.NodeID || !peer.DataAddr.IsValid() || !e.Addr.IsValid() {
			continue
		}
		mac := e.MAC
		if mac == "" {
			mac = dataplane.MAC(e.Addr.Addr())
		}
		out[e.Addr.Addr()] = dataplane.Remote{MAC: mac, VTEP: peer.DataAddr}
	}
	return out
}

// backendsLocked is where new connections to the service may go on the network: its ready endpoints, without those on nodes that
// do not answer, unless none would be left.
func (n *Networks) backendsLocked(service, network shoal.ID) []shoal.Endpoint {
	var all, trusted []shoal.Endpoint
	for _, e := range n.tasks[service] {
		if e.NetworkID != network || e.State != shoal.EndpointReady {
			continue
		}
		all = append(all, e)
		if !n.suspects[e.NodeID] {
			trusted = append(trusted, e)
		}
	}
	if len(trusted) > 0 {
		return trusted
	}
	return all
}

func (n *Networks) vipsLocked(network shoal.ID) []dataplane.VIP {
	var out []dataplane.VIP
	for id, s := range n.table.Services {
		vip, ok := s.VIPs[network]
		if !ok {
			continue
		}
		v := dataplane.VIP{Addr: vip.Addr()}
		for _, e := range n.backendsLocked(id, network) {
			v.Backends = append(v.Backends, e.Addr.Addr())
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b dataplane.VIP) int { return a.Addr.Compare(b.Addr) })
	return out
}

func (n *Networks) planBox(b *box, c *dataplane.Config, vips map[shoal.ID][]dataplane.VIP) *dataplane.Sandbox {
	s := &dataplane.Sandbox{Seed: seed(b.Spec.ContainerID)}
	exit := exitOf(b.Endpoints)
	for _, e := range b.Endpoints {
		if e.Overlay != "" && c.Overlays[e.Overlay] == nil {
			continue // the network is gone, or not yet known after a restart
		}
		d := dataplane.Endpoint{Name: e.Info.Interface, Bridge: e.Bridge, Overlay: e.Overlay, Parent: e.Parent, Addr: e.Info.Addr, MAC: e.Info.MAC,
			OnLink: further(n.table.Networks[e.Overlay], e.Info.Addr)}
		if e.Bridge == "" && e.Overlay == "" && e.Parent == "" {
			d.Addr = netip.PrefixFrom(d.Addr.Addr(), 32)
		}
		if e == exit {
			d.Gateway = e.Info.Gateway
		}
		s.Endpoints = append(s.Endpoints, d)
		if len(s.Services) == 0 {
			s.Services = vips[e.Overlay]
		} else {
			s.Services = slices.Concat(s.Services, vips[e.Overlay])
		}
	}
	if b.resolver != nil && named(b.Endpoints) {
		s.DNSPortUDP, s.DNSPortTCP = b.resolver.Ports()
	}
	return s
}

// further is the subnets of an overlay in the address's family that the address is not in.
func further(net shoal.Network, addr netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range net.IPAM {
		p, err := netip.ParsePrefix(s.Subnet)
		if err == nil && p.Addr().Is4() == addr.Addr().Is4() && !p.Overlaps(addr) {
			out = append(out, p.Masked())
		}
	}
	return out
}

func seed(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum32()
}

// exitOf is the endpoint that the default route leads through.
func exitOf(endpoints []*endpoint) *endpoint {
	for _, e := range endpoints {
		if e.hidden() {
			return e
		}
	}
	for _, e := range endpoints {
		if (e.Bridge != "" || e.Parent != "") && e.Info.Gateway.IsValid() {
			return e
		}
	}
	return nil
}

func publishedBy(b *box) []dataplane.Port {
	exit := exitOf(b.Endpoints)
	if exit == nil || exit.Bridge == "" {
		return nil
	}
	var out []dataplane.Port
	for _, p := range b.Ports {
		out = append(out, dataplane.Port{Protocol: p.Protocol, Port: p.HostPort, HostIP: p.HostIP,
			Backends: []dataplane.Backend{{Addr: exit.Info.Addr.Addr(), Port: p.Target}}})
	}
	return out
}

// planIngressLocked is the node's part in the routing mesh.
func (n *Networks) planIngressLocked(c *dataplane.Config) {
	self := n.table.Peers[n.table.NodeID]
	var mesh shoal.Network
	for _, net := range n.table.Networks {
		if net.Spec.Ingress {
			mesh = net
		}
	}
	if mesh.VNI == 0 || !self.IngressAddr.IsValid() || !self.DataAddr.IsValid() || len(mesh.IPAM) == 0 {
		return
	}
	subnet, err := netip.ParsePrefix(mesh.IPAM[0].Subnet)
	if err != nil {
		n.log.Error("ingress network has no subnet", "subnet", mesh.IPAM[0].Subnet, "err", err)
		return
	}
	in := &dataplane.Ingress{VNI: mesh.VNI, Port: n.tunnelPort(), Local: self.DataAddr, Addr: netip.PrefixFrom(self.IngressAddr, subnet.Bits()),
		Tasks: map[netip.Addr]netip.Addr{}, LocalTasks: map[netip.Addr]netip.Addr{}, Gwbridge: shoal.GwbridgeName}
	for _, p := range n.table.Peers {
		if p.NodeID != self.NodeID && p.IngressAddr.IsValid() && p.DataAddr.IsValid() {
			in.Peers = append(in.Peers, dataplane.IngressPeer{Addr: p.IngressAddr, VTEP: p.DataAddr})
		}
	}
	slices.SortFunc(in.Peers, func(a, b dataplane.IngressPeer) int { return a.Addr.Compare(b.Addr) })
	for _, b := range n.boxes {
		if exit := exitOf(b.Endpoints); b.planned && b.Spec.IngressAddr.IsValid() && exit != nil && exit.hidden() {
			in.LocalTasks[b.Spec.IngressAddr.Addr()] = exit.Info.Addr.Addr()
		}
	}
	for _, e := range n.table.Endpoints {
		if host := n.table.Peers[e.NodeID]; e.NetworkID == mesh.ID && e.NodeID != self.NodeID && host.IngressAddr.IsValid() && e.Addr.IsValid() {
			in.Tasks[e.Addr.Addr()] = host.IngressAddr
		}
	}
	c.Ingress = in
	c.Ports = append(c.Ports, n.meshPortsLocked(mesh.ID, in)...)
}

func (n *Networks) meshPortsLocked(mesh shoal.ID, in *dataplane.Ingress) []dataplane.Port {
	var out []dataplane.Port
	for id, s := range n.table.Services {
		if len(s.Ports) == 0 {
			continue
		}
		var addrs []netip.Addr
		for _, e := range n.backendsLocked(id, mesh) {
			addr := e.Addr.Addr()
			if e.NodeID == n.table.NodeID {
				addr = in.LocalTasks[addr] // invalid while the task has no sandbox here
			}
			if addr.IsValid() {
				addrs = append(addrs, addr)
			}
		}
		for _, p := range s.Ports {
			if p.Mode == shoal.PublishHost || p.Published == 0 {
				continue
			}
			port := dataplane.Port{Protocol: p.Protocol, Port: p.Published}
			for _, a := range addrs {
				port.Backends = append(port.Backends, dataplane.Backend{Addr: a, Port: p.Target})
			}
			out = append(out, port)
		}
	}
	return out
}
