// Package mesh makes the node's part in the routing mesh: a VXLAN device on the ingress network, routes to tasks on other nodes, and policy routing
// that sends replies back to the node by which their connection came. It reads and writes that device, routes and routing rules in the node's
// namespace, and rulesets (package nft).
package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/vxlan"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// DeviceName is the node's interface on the ingress network.
const DeviceName = "ing0"

// markMask is the part of packet and connection marks that names the entry node of a connection: the node by which it came into the mesh.
const markMask = 0xffff

// entryMark is the mark of connections that came by the node with that ingress address (IPv4): the last 16 bits, which are unique on networks
// of up to a /16.
func entryMark(peer netip.Addr) uint32 {
	b := peer.As4()
	return uint32(binary.BigEndian.Uint16(b[2:]))
}

// Mesh is the node's part in the routing mesh. It is not safe for concurrent use.
type Mesh struct {
	node  *netns.Namespace
	links *netlink.Handle // in node

	owner string

	applied *config.Ingress // nil while there is none, or it is not known to be as it should
	// searched tells that nothing is left of the mesh, if applied is nil.
	searched bool
	routes   *rtnl.Monitor // nil until the first look for drift
	zones    zones
}

// New is the mesh in the node's namespace. links is an rtnetlink socket in it.
// owner is the alias of its device.
func New(node *netns.Namespace, links *netlink.Handle, owner string) *Mesh {
	return &Mesh{node: node, links: links, owner: owner, zones: zones{node: node}}
}

// isOthers tells whether the mesh of this namespace is that of another daemon. There can be only one: its device, routing rules and gateway bridge have fixed names.
func (m *Mesh) isOthers() bool {
	link, err := m.links.LinkByName(DeviceName)
	return err == nil && rtnl.OwnedByAnother(link, m.owner)
}

// Close lets go of the kernel, which keeps its state.
func (m *Mesh) Close() error { return errors.Join(m.routes.Close(), m.zones.close()) }

// Forget makes the next Apply look at the kernel itself.
func (m *Mesh) Forget() {
	m.applied, m.searched = nil, false
	m.zones.applied = nil
}

// Applied tells whether the node takes part in the mesh.
func (m *Mesh) Applied() bool { return m.applied != nil }

// Apply makes the node's part in the mesh as it should be; nil removes it. It does nothing if that is what was last applied.
func (m *Mesh) Apply(want *config.Ingress) error {
	was := m.applied
	if want == nil && was == nil && m.searched || want != nil && sameButTasks(was, want) && was.Tasks == want.Tasks {
		return nil
	}
	m.applied, m.searched = nil, false
	if m.isOthers() {
		if m.searched = want == nil; m.searched {
			return nil
		}
		return fmt.Errorf("the routing mesh of this network namespace (%s) belongs to another daemon", DeviceName)
	}
	if want == nil {
		err := errors.Join(m.applyRoutingRules(nil), m.removeDevice(), m.zones.remove())
		m.searched = err == nil
		return err
	}
	if err := m.apply(want, was); err != nil {
		return err
	}
	m.applied = want
	return nil
}

func (m *Mesh) apply(want, was *config.Ingress) error {
	if sameButTasks(was, want) {
		link, err := m.links.LinkByName(DeviceName)
		if err != nil {
			return fmt.Errorf("find %s: %w", DeviceName, err)
		}
		return m.changeTaskRoutes(link.Attrs().Index, pmap.Changes(was.Tasks, want.Tasks))
	}
	if err := m.zones.apply(want); err != nil {
		return err
	}
	link, err := m.applyDevice(want)
	if err != nil {
		return err
	}
	if err := vxlan.Replace(m.links, link.Attrs().Index, pmap.Of(remotes(want))); err != nil {
		return err
	}
	if err := m.applyRoutes(link.Attrs().Index, want); err != nil {
		return err
	}
	return m.applyRoutingRules(want)
}

// sameButTasks tells that two meshes differ at most in the tasks of other nodes.
func sameButTasks(a, b *config.Ingress) bool {
	if a == nil || b == nil {
		return false
	}
	x, y := *a, *b
	x.Tasks, y.Tasks = config.NextHops{}, config.NextHops{}
	return reflect.DeepEqual(x, y)
}

// remotes is the other nodes of the mesh as entries of the VXLAN device.
func remotes(in *config.Ingress) map[netip.Addr]config.Remote {
	out := map[netip.Addr]config.Remote{}
	for _, peer := range in.Peers {
		r := config.Remote{MAC: shoal.MACFor(peer.Addr), VTEP: peer.VTEP}
		out[peer.Addr] = r
		if peer.Addr6.IsValid() {
			out[peer.Addr6] = r
		}
	}
	return out
}

// applyDevice finds the VXLAN device, or makes it if there is none or one that is made differently.
func (m *Mesh) applyDevice(in *config.Ingress) (netlink.Link, error) {
	device, mac := vxlan.Device{VNI: in.VNI, Port: in.Port, Local: in.Local}, shoal.MACFor(in.Addr.Addr())
	link, err := m.links.LinkByName(DeviceName)
	if err == nil && (!device.Is(link) || shoal.MACFrom(link.Attrs().HardwareAddr) != mac) {
		if err := m.removeDevice(); err != nil {
			return nil, err
		}
		link = nil
	}
	if err != nil || link == nil {
		err := m.links.LinkAdd(device.Link(netlink.LinkAttrs{Name: DeviceName, MTU: vxlan.MTU(m.links, in.MTU, in.Local),
			HardwareAddr: mac.HardwareAddr(), Alias: m.owner}))
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", DeviceName, err)
		}
		if link, err = m.links.LinkByName(DeviceName); err != nil {
			return nil, fmt.Errorf("find %s: %w", DeviceName, err)
		}
	}
	if in.Addr6.IsValid() {
		if err := m.node.Run(func() error { return netns.EnableIPv6(DeviceName) }); err != nil {
			return nil, fmt.Errorf("enable IPv6 on %s: %w", DeviceName, err)
		}
	}
	if err := rtnl.SetAddresses(m.links, link, in.Addr, in.Addr6); err != nil {
		return nil, err
	}
	if err := m.links.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", DeviceName, err)
	}
	return link, m.node.Run(func() error {
		// Packets of clients arrive here that the node itself would reach by another interface: reverse path filtering must be loose.
		return errors.Join(netns.SetSysctl("net/ipv4/conf/"+DeviceName+"/rp_filter", "2"),
			netns.SetSysctl("net/ipv4/conf/"+DeviceName+"/route_localnet", "1"))
	})
}

func (m *Mesh) removeDevice() error {
	link, err := m.links.LinkByName(DeviceName)
	if rtnl.NotFound(err) {
		return nil
	}
	if err == nil {
		err = m.links.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", DeviceName, err)
	}
	return nil
}
