package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
)

const (
	overlayPrefix = "ov-"
	overlayBridge = "br0"
	overlayTunnel = "vx0"
	// tunnelOverhead is what VXLAN over IPv4 adds to a packet.
	tunnelOverhead = 50
)

// OverlayNamespace is the name of an overlay network's namespace.
func OverlayNamespace(id string) string { return overlayPrefix + id }

func overlayWanted(c *Config, name string) bool {
	if len(name) <= len(overlayPrefix) || name[:len(overlayPrefix)] != overlayPrefix {
		return false
	}
	return c.Overlays[name[len(overlayPrefix):]] != nil
}

func (p *Plane) applyOverlay(o *Overlay) error {
	p.partsMu.Lock()
	was := p.applied.overlays[o.ID]
	delete(p.applied.overlays, o.ID)
	p.partsMu.Unlock()
	if was == nil || *was != *o {
		if err := p.makeOverlay(o, was); err != nil {
			return err
		}
	}
	p.partsMu.Lock()
	defer p.partsMu.Unlock()
	p.applied.overlays[o.ID] = o
	return nil
}

func (p *Plane) makeOverlay(o, was *Overlay) error {
	name := OverlayNamespace(o.ID)
	path := p.path(name)
	if !pinned(path) {
		if err := create(p.home, path); err != nil {
			return err
		}
		was = nil
		p.partsMu.Lock()
		err := p.closeWatch(o.ID) // of the namespace that was there before
		p.partsMu.Unlock()
		if err != nil {
			return err
		}
	}
	return p.look(name, func(h *netlink.Handle, ns netns.NsHandle) error { return p.fillOverlay(h, ns, o, was) })
}

// fillOverlay makes what is in the network's namespace. was is nil if that is not known.
func (p *Plane) fillOverlay(h *netlink.Handle, ns netns.NsHandle, o, was *Overlay) error {
	if was != nil && was.frame() == o.frame() {
		vx, err := h.LinkByName(overlayTunnel)
		if err != nil {
			return fmt.Errorf("find tunnel: %w", err)
		}
		return program(h, vx.Attrs().Index, pmap.Changes(was.Remotes, o.Remotes))
	}
	mtu := mtuOr(o.MTU, p.PathMTU(o.Local)-tunnelOverhead)
	br, err := p.overlayBridge(h, ns, mtu)
	if err != nil {
		return err
	}
	vx, err := h.LinkByName(overlayTunnel)
	if err == nil {
		have, ok := vx.(*netlink.Vxlan)
		if !ok || have.VxlanId != int(o.VNI) || have.Port != int(o.Port) || !have.SrcAddr.Equal(net.IP(o.Local.AsSlice())) {
			if err := h.LinkDel(vx); err != nil {
				return fmt.Errorf("remove outdated tunnel: %w", err)
			}
			err = unix.ENODEV
		}
		if ok && err == nil {
			if err := raise(h, vx, br); err != nil {
				return err
			}
			return programAll(h, vx, o.Remotes)
		}
	}
	// The device is made by the node's socket, so that its outer packets travel in the node's namespace.
	err = p.node.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: overlayTunnel, MTU: mtu, Namespace: netlink.NsFd(int(ns)), TxQLen: -1},
		VxlanId: int(o.VNI), SrcAddr: o.Local.AsSlice(), Port: int(o.Port), Proxy: true, Learning: false, UDPCSum: true})
	if err != nil {
		return fmt.Errorf("create tunnel: %w", err)
	}
	if vx, err = h.LinkByName(overlayTunnel); err != nil {
		return fmt.Errorf("find tunnel: %w", err)
	}
	if err := raise(h, vx, br); err != nil {
		return err
	}
	return programAll(h, vx, o.Remotes)
}

// raise puts the tunnel on the bridge and sets it up, if it is not.
func raise(h *netlink.Handle, vx, br netlink.Link) error {
	if vx.Attrs().MasterIndex != br.Attrs().Index {
		if err := h.LinkSetMasterByIndex(vx, br.Attrs().Index); err != nil {
			return fmt.Errorf("put tunnel on bridge: %w", err)
		}
	}
	if vx.Attrs().Flags&unix.IFF_UP == 0 {
		if err := h.LinkSetUp(vx); err != nil {
			return fmt.Errorf("set tunnel up: %w", err)
		}
	}
	return nil
}

// frame is the overlay without what there is much of.
func (o *Overlay) frame() Overlay {
	f := *o
	f.Remotes = Remotes{}
	return f
}

func (p *Plane) overlayBridge(h *netlink.Handle, ns netns.NsHandle, mtu int) (netlink.Link, error) {
	br, err := h.LinkByName(overlayBridge)
	if err == nil {
		if br.Attrs().Flags&unix.IFF_UP == 0 {
			err = h.LinkSetUp(br)
		}
		return br, err
	}
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: overlayBridge, MTU: mtu, TxQLen: -1}}); err != nil {
		return nil, fmt.Errorf("create bridge: %w", err)
	}
	if br, err = h.LinkByName(overlayBridge); err != nil {
		return nil, fmt.Errorf("find bridge: %w", err)
	}
	if err := h.LinkSetUp(br); err != nil {
		return nil, fmt.Errorf("set bridge up: %w", err)
	}
	return br, inNamespace(p.home, ns, func() error {
		// Frames of the overlay are nobody's business but the tasks'. The file is absent where br_netfilter is.
		if err := sysctl("net/bridge/bridge-nf-call-iptables", "0"); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

// PathMTU is the MTU of the interface that has the address.
func (p *Plane) PathMTU(local netip.Addr) int {
	addrs, err := p.node.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return defaultMTU
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == local {
			if l, err := p.node.LinkByIndex(a.LinkIndex); err == nil {
				return l.Attrs().MTU
			}
		}
	}
	return defaultMTU
}

// programAll makes the device's entries those of the remotes, whatever they are now.
func programAll(h *netlink.Handle, vx netlink.Link, want Remotes) error {
	index := vx.Attrs().Index
	have, err := programmed(h, index)
	if err != nil {
		return err
	}
	return program(h, index, pmap.Changes(pmap.Of(have), want))
}

// program writes a forwarding and a neighbour entry per remote address: the tunnel answers ARP itself and never learns or floods.
func program(h *netlink.Handle, index int, changes []pmap.Change[netip.Addr, Remote]) error {
	for _, c := range changes {
		if c.Had && (!c.Has || c.New.MAC != c.Old.MAC) {
			for _, n := range entries(index, c.Key, c.Old) {
				if err := h.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("forget %s: %w", c.Key, err)
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

// entries is what there is for an address: where its hardware address is, and what that is. The former comes with an endpoint's IPv4
// address and serves both.
func entries(index int, addr netip.Addr, r Remote) []*netlink.Neigh {
	hw, _ := net.ParseMAC(r.MAC)
	if addr.Is6() {
		return []*netlink.Neigh{{LinkIndex: index, Family: unix.AF_INET6, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hw}}
	}
	fdb := &netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF, HardwareAddr: hw}
	if r.VTEP.IsValid() {
		fdb.IP = r.VTEP.AsSlice()
	}
	return []*netlink.Neigh{fdb, {LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hw}}
}

func programmed(h *netlink.Handle, index int) (map[netip.Addr]Remote, error) {
	fdb, err := h.NeighList(index, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	behind := map[string]netip.Addr{}
	for _, n := range fdb {
		if vtep, ok := netip.AddrFromSlice(n.IP); ok {
			behind[n.HardwareAddr.String()] = vtep.Unmap()
		}
	}
	out := map[netip.Addr]Remote{}
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		neighbours, err := h.NeighList(index, f)
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, n := range neighbours {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && n.State&netlink.NUD_PERMANENT != 0 {
				out[addr.Unmap()] = Remote{MAC: n.HardwareAddr.String(), VTEP: behind[n.HardwareAddr.String()]}
			}
		}
	}
	return out, nil
}

// removeTunnel removes an overlay's tunnel ahead of its namespace: as long as it is there, which may be a while after the namespace
// has been let go, no other with its VNI can be made.
func removeTunnel(path string) error {
	if !strings.HasPrefix(filepath.Base(path), overlayPrefix) || !pinned(path) {
		return nil
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(overlayTunnel)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove tunnel of %s: %w", filepath.Base(path), err)
	}
	return nil
}
