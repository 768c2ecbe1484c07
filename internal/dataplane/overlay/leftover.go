package overlay

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/vxlan"
)

// signature is the alias of a network's VXLAN device: that it was made by the daemon of this directory, and for which network.
func (o *Overlays) signature(id string) string {
	const longest = 255 // in the kernel
	text := o.dir.Path(Namespace(id))
	return text[max(0, len(text)-longest):]
}

// sign gives the VXLAN device its signature.
func (o *Overlays) sign(h *netlink.Handle, vx netlink.Link, id string) error {
	if vx.Attrs().Alias == o.signature(id) {
		return nil
	}
	if err := h.LinkSetAlias(vx, o.signature(id)); err != nil {
		return fmt.Errorf("sign VXLAN device: %w", err)
	}
	return nil
}

// madeHere tells whether a VXLAN device was made by the daemon of this directory: it has such a signature, and its outer packets travel in the node's
// namespace.
func (o *Overlays) madeHere(h *netlink.Handle, vx netlink.Link) bool {
	id, ok := NetworkID(filepath.Base(vx.Attrs().Alias))
	return ok && vx.Attrs().Alias == o.signature(id) && o.dir.IsNode(h, vx.Attrs().NetNsID)
}

// inUse tells whether the network's namespace that is pinned has interfaces of containers.
func (o *Overlays) inUse(id string) bool {
	used := false
	err := o.dir.Netlink(Namespace(id), func(h *netlink.Handle, _ *netns.Namespace) error {
		links, err := h.LinkList()
		used = slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Type() == "veth" })
		return err
	})
	return used || err != nil
}

// clearTheWay looks for the namespace with the VXLAN device because of which no other can be made, and tells whether it is in the way no more. If it is
// the network's own, it is pinned in place of the one that is pinned now, unless that has containers; its containers stay connected. Otherwise its device is
// removed. Devices that the daemon of this directory has not made stay.
func (o *Overlays) clearTheWay(want *config.Overlay) (cleared bool) {
	device := vxlan.Device{VNI: want.VNI, Port: want.Port, Local: want.Local}
	o.dir.Search(func(ns *netns.Namespace) bool {
		h, err := ns.Netlink()
		if err != nil {
			return false
		}
		defer h.Close()
		vx, err := h.LinkByName(vxlanDevice)
		if err != nil || !device.Excludes(vx) || !o.madeHere(h, vx) {
			return false
		}
		if vx.Attrs().Alias == o.signature(want.ID) && !o.inUse(want.ID) {
			err = o.adopt(want.ID, ns)
		} else {
			err = h.LinkDel(vx)
		}
		cleared = err == nil
		return true
	})
	return cleared || o.removeAbandoned(device)
}

// removeAbandoned removes the device that is in the way if a daemon of another directory has made it, which is gone, and no container is on its network.
func (o *Overlays) removeAbandoned(device vxlan.Device) bool {
	return o.dir.SearchAbandoned(func(pin string, ns *netns.Namespace) bool {
		h, err := ns.Netlink()
		if err != nil {
			return false
		}
		defer h.Close()
		vx, err := h.LinkByName(vxlanDevice)
		if err != nil || !device.Excludes(vx) || !strings.HasSuffix(pin, vx.Attrs().Alias) || !o.dir.IsNode(h, vx.Attrs().NetNsID) {
			return false
		}
		links, err := h.LinkList()
		if err != nil || slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Type() == "veth" }) {
			return false
		}
		return h.LinkDel(vx) == nil
	})
}

// adopt pins a namespace as the network's.
func (o *Overlays) adopt(id string, ns *netns.Namespace) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(o.closeMonitorLocked(id), o.dir.Pin(Namespace(id), ns))
}
