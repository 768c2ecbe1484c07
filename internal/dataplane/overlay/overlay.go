// Package overlay makes the cluster's overlay networks on the node: each has a namespace with a bridge, on which are the containers, and a VXLAN
// device to other nodes. It writes those namespaces, their links, and the device's forwarding and neighbour entries; and it compares them with what it
// has applied.
package overlay

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/vxlan"
)

const (
	namespacePrefix = "ov-"
	// BridgeName is the bridge in an overlay's namespace.
	BridgeName  = "br0"
	vxlanDevice = "vx0"
)

// Namespace is the name of an overlay network's namespace.
func Namespace(id string) string { return namespacePrefix + id }

// NetworkID is the overlay network of the namespace; false if the namespace is not an overlay's.
func NetworkID(namespace string) (string, bool) {
	id, ok := strings.CutPrefix(namespace, namespacePrefix)
	return id, ok && id != ""
}

// Overlays is the overlay networks of the node.
type Overlays struct {
	dir   *netns.Dir
	links *netlink.Handle // in the node's namespace

	mu       sync.Mutex                 // guards what follows
	applied  map[string]*config.Overlay // by ID; what failed half way is not in it
	monitors map[string]*rtnl.Monitor   // by ID, of entries
}

// New is the overlays whose namespaces are pinned in the directory. links is an rtnetlink socket in the node's namespace.
func New(dir *netns.Dir, links *netlink.Handle) *Overlays {
	return &Overlays{dir: dir, links: links, applied: map[string]*config.Overlay{}, monitors: map[string]*rtnl.Monitor{}}
}

// Close lets go of the kernel, which keeps its state.
func (o *Overlays) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for id := range o.monitors {
		errs = append(errs, o.closeMonitorLocked(id))
	}
	return errors.Join(errs...)
}

// Forget makes the next Apply look at the kernel itself.
func (o *Overlays) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.applied = map[string]*config.Overlay{}
}

// Len is how many overlays are applied.
func (o *Overlays) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.applied)
}

// Apply makes an overlay as it should be. It does nothing if that is what was last applied. It may be called for several overlays at a time.
func (o *Overlays) Apply(want *config.Overlay) error {
	o.mu.Lock()
	was := o.applied[want.ID]
	delete(o.applied, want.ID)
	o.mu.Unlock()
	if was == nil || *was != *want {
		if err := o.apply(want, was); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.applied[want.ID] = want
	return nil
}

// apply makes the namespace if there is none. was is nil if what the kernel has is not known.
func (o *Overlays) apply(want, was *config.Overlay) error {
	name := Namespace(want.ID)
	if !o.dir.Exists(name) {
		if err := o.dir.Create(name); err != nil {
			return err
		}
		was = nil
		o.mu.Lock()
		err := o.closeMonitorLocked(want.ID) // it is of the namespace that was there before
		o.mu.Unlock()
		if err != nil {
			return err
		}
	}
	err := o.applyInside(want, was)
	if errors.Is(err, unix.EEXIST) && o.clearTheWay(want) {
		err = o.applyInside(want, nil)
	}
	return err
}

// applyInside makes what is in the namespace, which exists.
func (o *Overlays) applyInside(want, was *config.Overlay) error {
	return o.dir.Netlink(Namespace(want.ID), func(h *netlink.Handle, ns *netns.Namespace) error {
		if was != nil && withoutRemotes(was) == withoutRemotes(want) {
			vx, err := h.LinkByName(vxlanDevice)
			if err != nil {
				return fmt.Errorf("find VXLAN device: %w", err)
			}
			return vxlan.Change(h, vx.Attrs().Index, pmap.Changes(was.Remotes, want.Remotes))
		}
		return o.applyLinks(h, ns, want)
	})
}

// withoutRemotes is the overlay as far as its links depend on it.
func withoutRemotes(o *config.Overlay) config.Overlay {
	links := *o
	links.Remotes = config.Remotes{}
	return links
}

// applyLinks makes the bridge, the VXLAN device and all of its entries.
func (o *Overlays) applyLinks(h *netlink.Handle, ns *netns.Namespace, want *config.Overlay) error {
	mtu := vxlan.MTU(o.links, want.MTU, want.Local)
	br, err := applyBridge(h, ns, mtu)
	if err != nil {
		return err
	}
	vx, err := o.applyVXLAN(h, ns, want, mtu)
	if err != nil {
		return err
	}
	if vx.Attrs().MasterIndex != br.Attrs().Index {
		if err := h.LinkSetMasterByIndex(vx, br.Attrs().Index); err != nil {
			return fmt.Errorf("put VXLAN device on bridge: %w", err)
		}
	}
	if !rtnl.IsUp(vx) {
		if err := h.LinkSetUp(vx); err != nil {
			return fmt.Errorf("set VXLAN device up: %w", err)
		}
	}
	return vxlan.Replace(h, vx.Attrs().Index, want.Remotes)
}

func applyBridge(h *netlink.Handle, ns *netns.Namespace, mtu int) (netlink.Link, error) {
	br, err := h.LinkByName(BridgeName)
	if err == nil {
		if !rtnl.IsUp(br) {
			err = h.LinkSetUp(br)
		}
		return br, err
	}
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: BridgeName, MTU: mtu, TxQLen: -1}}); err != nil {
		return nil, fmt.Errorf("create bridge: %w", err)
	}
	if br, err = h.LinkByName(BridgeName); err != nil {
		return nil, fmt.Errorf("find bridge: %w", err)
	}
	if err := h.LinkSetUp(br); err != nil {
		return nil, fmt.Errorf("set bridge up: %w", err)
	}
	return br, ns.Run(func() error {
		// Frames of the overlay must not traverse IP rules. The file exists only where the module br_netfilter is loaded.
		if err := netns.SetSysctl("net/bridge/bridge-nf-call-iptables", "0"); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

// applyVXLAN finds the VXLAN device, or makes it if there is none or one that is made differently.
func (o *Overlays) applyVXLAN(h *netlink.Handle, ns *netns.Namespace, want *config.Overlay, mtu int) (netlink.Link, error) {
	device := vxlan.Device{VNI: want.VNI, Port: want.Port, Local: want.Local}
	if vx, err := h.LinkByName(vxlanDevice); err == nil {
		if device.Is(vx) {
			return vx, o.sign(h, vx, want.ID)
		}
		if err := h.LinkDel(vx); err != nil {
			return nil, fmt.Errorf("remove outdated VXLAN device: %w", err)
		}
	}
	// The device is made by the node's socket, so that its outer packets travel in the node's namespace.
	if err := o.links.LinkAdd(device.Link(netlink.LinkAttrs{Name: vxlanDevice, MTU: mtu, Namespace: netlink.NsFd(ns.FD())})); err != nil {
		return nil, fmt.Errorf("create VXLAN device: %w", err)
	}
	vx, err := h.LinkByName(vxlanDevice)
	if err != nil {
		return nil, fmt.Errorf("find VXLAN device: %w", err)
	}
	return vx, o.sign(h, vx, want.ID)
}

// Prune forgets the overlays that are not wanted. Their namespaces are left to the caller: see Release.
func (o *Overlays) Prune(want map[string]*config.Overlay) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.applied, func(id string, _ *config.Overlay) bool { return want[id] == nil })
}

// Release prepares a network's namespace for removal. It removes the VXLAN device ahead of it: as long as that is there, which may be a
// while after the namespace was let go, no other device with its VNI can be made. It is no error if there is no such namespace.
func (o *Overlays) Release(id string) error {
	o.mu.Lock()
	err := o.closeMonitorLocked(id)
	o.mu.Unlock()
	name := Namespace(id)
	if !o.dir.Exists(name) {
		return err
	}
	return errors.Join(err, o.dir.Netlink(name, func(h *netlink.Handle, _ *netns.Namespace) error {
		link, err := h.LinkByName(vxlanDevice)
		if rtnl.NotFound(err) {
			return nil
		}
		if err == nil {
			err = h.LinkDel(link)
		}
		if err != nil {
			return fmt.Errorf("remove VXLAN device of %s: %w", name, err)
		}
		return nil
	}))
}

func (o *Overlays) closeMonitorLocked(id string) error {
	m := o.monitors[id]
	delete(o.monitors, id)
	return m.Close()
}
