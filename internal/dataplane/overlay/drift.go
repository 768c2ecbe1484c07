package overlay

import (
	"maps"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/vxlan"
)

// Drifted compares the kernel with what was applied. It returns the IDs of overlays that others have changed, and forgets them. Unless thorough is
// set, a network's entries are compared only if one was removed since the last time.
func (o *Overlays) Drifted(thorough bool) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var drifted []string
	for id, want := range o.applied {
		if !o.intactLocked(want, thorough) {
			delete(o.applied, id)
			drifted = append(drifted, id)
		}
	}
	return drifted
}

func (o *Overlays) intactLocked(want *config.Overlay, thorough bool) bool {
	intact := false
	err := o.dir.Netlink(Namespace(want.ID), func(h *netlink.Handle, ns *netns.Namespace) error {
		br, err := h.LinkByName(BridgeName)
		if err != nil {
			return err
		}
		vx, err := h.LinkByName(vxlanDevice)
		if err != nil {
			return err
		}
		intact = rtnl.IsUp(br) && rtnl.IsUp(vx) && vx.Attrs().MasterIndex == br.Attrs().Index
		removed := o.removedLocked(want.ID, ns)
		if !intact || !removed && !thorough {
			return nil
		}
		have, err := vxlan.List(h, vx.Attrs().Index)
		intact = err == nil && maps.Equal(have, maps.Collect(want.Remotes.All()))
		return err
	})
	return err == nil && intact
}

// removedLocked tells whether an entry may have been removed since the last call. The first call for a network starts to listen.
func (o *Overlays) removedLocked(id string, ns *netns.Namespace) bool {
	if m := o.monitors[id]; m != nil {
		return m.Removed()
	}
	if m, err := rtnl.MonitorNeighbours(ns); err == nil {
		o.monitors[id] = m
	}
	return true
}
