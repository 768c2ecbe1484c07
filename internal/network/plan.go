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

// planLocked derives the whole config of the data plane.
func (n *Networks) planLocked() *dataplane.Config {
	c := &dataplane.Config{Bridges: map[string]*dataplane.Bridge{}, Overlays: map[string]*dataplane.Overlay{}, Sandboxes: map[string]*dataplane.Sandbox{}}
	for _, l := range n.localNetworks {
		if l.pool == nil || l.Spec.Driver != shoal.DriverBridge {
			continue
		}
		mtu, _ := strconv.Atoi(l.Spec.Options[shoal.OptionMTU]) // 0, the default, if it is not set
		c.Bridges[l.bridge()] = &dataplane.Bridge{Name: l.bridge(), Gateway: l.gateway(), Gateway6: l.gateway6(), MTU: mtu, Internal: l.Spec.Internal,
			NoICC: !l.option(optionICC, true), Masquerade: l.option(optionMasquerade, true)}
	}
	self := n.table.Peers[n.table.NodeID]
	for id, net := range n.clusterNetworksLocked() {
		if net.Spec.Ingress || net.VNI == 0 || !self.DataAddr.IsValid() {
			continue
		}
		mtu, _ := strconv.Atoi(net.Spec.Options[shoal.OptionMTU])
		o := &dataplane.Overlay{ID: string(id), VNI: net.VNI, Port: n.tunnelPort(), Local: self.DataAddr, MTU: mtu, Remotes: n.derivedFor(id).remotes}
		if net.Encrypted() {
			if !n.addWireGuard(c, self) {
				continue
			}
			o.Encrypted, o.Local, o.MTU = true, self.TunnelAddr, cmp.Or(mtu, n.encryptedOverlayMTU(self))
		}
		c.Overlays[string(id)] = o
	}
	for id, sb := range n.sandboxes {
		n.records.set("sandbox "+id, sandboxRecords(sb))
		if sb.active {
			c.Sandboxes[namespaceOf(id)] = n.planSandbox(sb, c)
			c.Ports = append(c.Ports, publishedPorts(sb)...)
		}
	}
	n.planIngressLocked(c)
	n.reserveMeshPortsLocked()
	slices.SortFunc(c.Ports, func(a, b dataplane.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), a.HostIP.Compare(b.HostIP))
	})
	return c
}

// clusterNetworksLocked is the table's networks, and those of endpoints that still exist. The latter are needed when attachments come
// and go quickly: a table without the network may arrive although another attachment to it has been granted meanwhile.
func (n *Networks) clusterNetworksLocked() map[shoal.NetworkID]shoal.Network {
	all := maps.Clone(n.table.Networks)
	taken := map[uint32]bool{}
	for _, net := range all {
		taken[net.VNI] = true
	}
	for _, sb := range n.sandboxes {
		for _, e := range sb.Endpoints {
			if e.Network == nil || taken[e.Network.VNI] {
				continue // the table has the network, or has given its VNI to another one
			}
			if all == nil {
				all = map[shoal.NetworkID]shoal.Network{}
			}
			all[shoal.NetworkID(e.Overlay)], taken[e.Network.VNI] = *e.Network, true
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

// planSandbox derives a container's interfaces and the virtual addresses that it can reach.
func (n *Networks) planSandbox(sb *containerSandbox, c *dataplane.Config) *dataplane.Sandbox {
	s := &dataplane.Sandbox{Seed: balancerSeed(sb.Spec.ContainerID), Services: map[string]dataplane.Services{}}
	defaultRoute := defaultRouteEndpoint(sb.Endpoints)
	for _, e := range sb.Endpoints {
		if e.Overlay != "" && c.Overlays[e.Overlay] == nil {
			continue // the network is gone, or not yet known after a restart
		}
		d := dataplane.Endpoint{Name: e.Info.Interface, Bridge: e.Bridge, Overlay: e.Overlay, Parent: e.Parent, Addr: e.Info.Addr, MAC: n.macOf(e),
			OnLink: otherSubnets(n.table.Networks[shoal.NetworkID(e.Overlay)], e.Info.Addr)}
		if n.ipv6 {
			d.Addr6 = e.Info.Addr6
		}
		if e.Bridge == "" && e.Overlay == "" && e.Parent == "" {
			d.Addr, d.Addr6 = hostPrefix(d.Addr), hostPrefix(d.Addr6)
		}
		if e == defaultRoute {
			d.Gateway, d.Gateway6 = e.Info.Gateway, e.Info.Gateway6
		}
		s.Endpoints = append(s.Endpoints, d)
		if e.Overlay != "" {
			s.Services[e.Overlay] = n.derivedFor(shoal.NetworkID(e.Overlay)).services
		}
	}
	if sb.resolver != nil && usesEmbeddedResolver(sb.Endpoints) {
		s.DNSPortUDP, s.DNSPortTCP = sb.resolver.Ports()
	}
	return s
}

// macOf is the endpoint's MAC. The zero MAC, for which the data plane derives one, stands for a record on disk that cannot be read.
func (n *Networks) macOf(e *endpoint) shoal.MAC {
	if err := e.Info.MAC.Err(); err != nil {
		n.log.Warn("endpoint has no valid MAC, one is derived from its address", "interface", e.Info.Interface, "address", e.Info.Addr, "err", err)
		return shoal.MAC{}
	}
	return e.Info.MAC
}

// hostPrefix is the address as a /32 or /128.
func hostPrefix(p netip.Prefix) netip.Prefix {
	if !p.IsValid() {
		return p
	}
	return netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
}

// otherSubnets is the overlay's subnets of the address's family that do not contain it.
func otherSubnets(net shoal.Network, addr netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range net.IPAM {
		p := s.Subnet
		if p.IsValid() && p.Addr().Is4() == addr.Addr().Is4() && !p.Overlaps(addr) {
			out = append(out, p.Masked())
		}
	}
	return out
}

// balancerSeed is a different number for every container, so that their round-robin counters do not all start at the same backend.
func balancerSeed(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum32()
}

// defaultRouteEndpoint is the endpoint of the default route, nil if there is none.
func defaultRouteEndpoint(endpoints []*endpoint) *endpoint {
	for _, e := range endpoints {
		if e.onGatewayBridge() {
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

// publishedPorts is the ports that a container publishes on the node, with its addresses as backends. Only containers whose default
// route leads through a bridge can be reached.
func publishedPorts(sb *containerSandbox) []dataplane.Port {
	exit := defaultRouteEndpoint(sb.Endpoints)
	if exit == nil || exit.Bridge == "" {
		return nil
	}
	var out []dataplane.Port
	for i, p := range sb.Ports {
		port := dataplane.Port{Protocol: p.Protocol, Port: p.HostPort, HostIP: p.HostIP}
		everywhere := i < len(sb.Spec.Ports) && !sb.Spec.Ports[i].HostIP.IsValid()
		if everywhere || p.HostIP.Is4() {
			port.Backends = append(port.Backends, dataplane.Backend{Addr: exit.Info.Addr.Addr(), Port: p.Target})
		}
		if exit.Info.Addr6.IsValid() && (everywhere || p.HostIP.Is6()) {
			port.Backends = append(port.Backends, dataplane.Backend{Addr: exit.Info.Addr6.Addr(), Port: p.Target})
		}
		if len(port.Backends) > 0 { // without backends the reservation alone refuses connections
			out = append(out, port)
		}
	}
	return out
}

// planIngressLocked is the node's part in the routing mesh.
func (n *Networks) planIngressLocked(c *dataplane.Config) {
	self := n.table.Peers[n.table.NodeID]
	mesh := n.table.Networks[n.ingressNetworkID]
	if mesh.VNI == 0 || !self.IngressAddr.IsValid() || !self.DataAddr.IsValid() || len(mesh.IPAM) == 0 {
		return
	}
	in := &dataplane.Ingress{VNI: mesh.VNI, Port: n.tunnelPort(), Local: self.DataAddr, Addr: prefixIn(mesh, self.IngressAddr),
		Tasks: n.meshNextHops, LocalTasks: n.localTaskAddrsLocked(), GatewayBridge: shoal.GwbridgeName}
	if mesh.Encrypted() {
		if !n.addWireGuard(c, self) {
			return
		}
		in.Encrypted, in.Local, in.MTU = true, self.TunnelAddr, n.encryptedOverlayMTU(self)
	}
	if n.ipv6 {
		in.Addr6 = prefixIn(mesh, self.IngressAddr6)
	}
	for _, p := range n.table.Peers {
		vtep := n.vtep(n.ingressNetworkID, p)
		if p.NodeID == self.NodeID || !p.IngressAddr.IsValid() || !vtep.IsValid() {
			continue
		}
		peer := dataplane.IngressPeer{Addr: p.IngressAddr, VTEP: vtep, Host: p.DataAddr}
		if in.Addr6.IsValid() && p.IngressAddr6.IsValid() {
			peer.Addr6, peer.Hosts6 = p.IngressAddr6, p.HostAddrs6
		}
		in.Peers = append(in.Peers, peer)
	}
	slices.SortFunc(in.Peers, func(a, b dataplane.IngressPeer) int { return a.Addr.Compare(b.Addr) })
	n.setLocalTasks(in.LocalTasks)
	c.Ingress, c.Mesh = in, n.ports
}

// localTaskAddrsLocked is where this node's tasks on the mesh are reached, by their ingress addresses.
func (n *Networks) localTaskAddrsLocked() map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	for _, sb := range n.sandboxes {
		if exit := defaultRouteEndpoint(sb.Endpoints); sb.active && sb.Spec.IngressAddr.IsValid() && exit != nil && exit.onGatewayBridge() {
			out[sb.Spec.IngressAddr.Addr()] = exit.Info.Addr.Addr()
			if sb.Spec.IngressAddr6.IsValid() && exit.Info.Addr6.IsValid() {
				out[sb.Spec.IngressAddr6.Addr()] = exit.Info.Addr6.Addr()
			}
		}
	}
	return out
}

// prefixIn is the address with the prefix length of the network's subnet that contains it; invalid if the address is.
func prefixIn(net shoal.Network, addr netip.Addr) netip.Prefix {
	for _, s := range net.IPAM {
		if s.Subnet.Contains(addr) {
			return netip.PrefixFrom(addr, s.Subnet.Bits())
		}
	}
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, map[bool]int{true: 24, false: 64}[addr.Is4()])
}
