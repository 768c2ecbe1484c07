// Package vxlan describes VXLAN devices that learn nothing and flood nothing, and programs what they know: for every remote endpoint a forwarding
// (FDB) entry and a neighbour entry, from which the device answers ARP and neighbour solicitations itself. It reads and writes the
// entries of the device that it is given.
package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// overhead is what VXLAN over IPv4 adds to a packet, in bytes.
const overhead = 50

// Device is what a VXLAN device is made from.
type Device struct {
	VNI   uint32
	Port  uint16 // UDP
	Local netip.Addr
}

// Link is the device's message to the kernel. The caller sets what else the attributes of the link need.
func (d Device) Link(attrs netlink.LinkAttrs) *netlink.Vxlan {
	attrs.TxQLen = -1
	return &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(d.VNI), SrcAddr: d.Local.AsSlice(), Port: int(d.Port), Proxy: true, Learning: false, UDPCSum: true}
}

// Is tells whether the link is such a device.
func (d Device) Is(link netlink.Link) bool {
	have, ok := link.(*netlink.Vxlan)
	return ok && have.VxlanId == int(d.VNI) && have.Port == int(d.Port) && have.SrcAddr.Equal(net.IP(d.Local.AsSlice()))
}

// Excludes tells whether the kernel refuses to make the device while it has the link, if the outer packets of both travel in one namespace.
func (d Device) Excludes(link netlink.Link) bool {
	have, ok := link.(*netlink.Vxlan)
	return ok && have.VxlanId == int(d.VNI) && have.Port == int(d.Port)
}

// MTU is wanted if it is above 0, or else the largest that the way from the local address carries. h is of the namespace that the outer packets
// travel in.
func MTU(h *netlink.Handle, wanted int, local netip.Addr) int {
	if wanted > 0 {
		return wanted
	}
	return rtnl.PathMTU(h, local) - overhead
}

// Replace makes the entries of the device those of the remotes, whatever they are now. index is the device's in h's namespace.
func Replace(h *netlink.Handle, index int, want config.Remotes) error {
	have, err := List(h, index)
	if err != nil {
		return err
	}
	return Change(h, index, pmap.Changes(pmap.Of(have), want))
}

// Change makes the entries follow the changes. It may be repeated.
func Change(h *netlink.Handle, index int, changes []pmap.Change[netip.Addr, config.Remote]) error {
	for _, c := range changes {
		if c.Had && (!c.Has || c.New.MAC != c.Old.MAC) {
			for _, n := range entries(index, c.Key, c.Old) {
				if err := h.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("remove entries of %s: %w", c.Key, err)
				}
			}
		}
		if !c.Has {
			continue
		}
		for _, n := range entries(index, c.Key, c.New) {
			if err := h.NeighSet(n); err != nil {
				return fmt.Errorf("program %s behind %s: %w", c.Key, c.New.VTEP, err)
			}
		}
	}
	return nil
}

// entries is the FDB entry, which says behind which VTEP a MAC is, and the neighbour entry, which says which MAC an address has. An endpoint's
// addresses share their MAC: the FDB entry comes with the IPv4 address, which every endpoint has, and serves both.
func entries(index int, addr netip.Addr, r config.Remote) []*netlink.Neigh {
	hw := r.MAC.HardwareAddr()
	if addr.Is6() {
		return []*netlink.Neigh{{LinkIndex: index, Family: unix.AF_INET6, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hw}}
	}
	fdb := &netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF, HardwareAddr: hw}
	if r.VTEP.IsValid() {
		fdb.IP = r.VTEP.AsSlice()
	}
	return []*netlink.Neigh{fdb, {LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hw}}
}

// List is what the kernel has: the permanent neighbour entries, each with what the FDB says of its MAC. FDB entries of a MAC that no address has are
// not in it.
func List(h *netlink.Handle, index int) (map[netip.Addr]config.Remote, error) {
	fdb, err := h.NeighList(index, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	vteps := map[shoal.MAC]netip.Addr{}
	for _, n := range fdb {
		if vtep, ok := netip.AddrFromSlice(n.IP); ok {
			vteps[shoal.MACFrom(n.HardwareAddr)] = vtep.Unmap()
		}
	}
	out := map[netip.Addr]config.Remote{}
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		neighbours, err := h.NeighList(index, f)
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, n := range neighbours {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && n.State&netlink.NUD_PERMANENT != 0 {
				mac := shoal.MACFrom(n.HardwareAddr)
				out[addr.Unmap()] = config.Remote{MAC: mac, VTEP: vteps[mac]}
			}
		}
	}
	return out, nil
}
