package sandbox

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/overlay"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// createLink makes the endpoint's interface. The far end of a veth pair, if it is one, is made where the bridge is; it goes when the sandbox goes.
func (s *Sandboxes) createLink(h *netlink.Handle, ns *netns.Namespace, e config.Endpoint, bridges map[string]*config.Bridge) (link netlink.Link, farEnd string, err error) {
	if err := s.evict(e); err != nil {
		return nil, "", fmt.Errorf("remove the interface that had the address before: %w", err)
	}
	switch {
	case e.Bridge != "":
		b := bridges[e.Bridge]
		if b == nil {
			return nil, "", fmt.Errorf("no bridge %s", e.Bridge)
		}
		farEnd, err = createVeth(s.links, ns, e, e.Bridge, cmp.Or(max(b.MTU, 0), rtnl.DefaultMTU))
	case e.Overlay != "":
		err = s.dir.Netlink(overlay.Namespace(e.Overlay), func(far *netlink.Handle, _ *netns.Namespace) error {
			br, err := far.LinkByName(overlay.BridgeName)
			if err != nil {
				return fmt.Errorf("find overlay's bridge: %w", err)
			}
			farEnd, err = createVeth(far, ns, e, overlay.BridgeName, br.Attrs().MTU)
			return err
		})
	case e.Parent != "":
		err = s.createOnParent(ns, e)
	default:
		// The interface leads nowhere: a bridge without ports only carries the address.
		err = h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: e.Name, HardwareAddr: e.HardwareAddr().HardwareAddr(), TxQLen: -1}})
	}
	if err != nil {
		return nil, "", err
	}
	link, err = h.LinkByName(e.Name)
	return link, farEnd, err
}

// createVeth makes a veth pair with one end on a bridge of far and the other, with the endpoint's name and MAC, in ns. It returns the first one's name.
func createVeth(far *netlink.Handle, ns *netns.Namespace, e config.Endpoint, bridge string, mtu int) (string, error) {
	br, err := far.LinkByName(bridge)
	if err != nil {
		return "", fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	name, err := randomName()
	if err != nil {
		return "", err
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu, MasterIndex: br.Attrs().Index, Flags: 1, TxQLen: -1},
		PeerName: e.Name, PeerNamespace: netlink.NsFd(ns.FD()), PeerMTU: uint32(mtu), PeerTxQLen: -1, PeerHardwareAddr: e.HardwareAddr().HardwareAddr()}
	if err := far.LinkAdd(link); err != nil {
		return "", fmt.Errorf("create veth pair: %w", err)
	}
	if e.Bridge != "" {
		// A container may be its own backend: the bridge then sends a frame back out of the port that it came in by.
		if err := far.LinkSetHairpin(link, true); err != nil {
			return "", errors.Join(fmt.Errorf("set hairpin on %s: %w", name, err), far.LinkDel(link))
		}
	}
	if err := far.LinkSetUp(link); err != nil {
		return "", errors.Join(fmt.Errorf("set %s up: %w", name, err), far.LinkDel(link))
	}
	return name, nil
}

// createOnParent makes the endpoint a further interface behind one of the node's.
func (s *Sandboxes) createOnParent(ns *netns.Namespace, e config.Endpoint) error {
	parent, err := s.links.LinkByName(e.Parent)
	if err != nil {
		return fmt.Errorf("find %s: %w", e.Parent, err)
	}
	attrs := netlink.LinkAttrs{Name: e.Name, ParentIndex: parent.Attrs().Index, Namespace: netlink.NsFd(ns.FD()), MTU: parent.Attrs().MTU, TxQLen: -1}
	if e.IPvlan != nil {
		if err := s.links.LinkAdd(ipvlan(attrs, *e.IPvlan)); err != nil {
			return fmt.Errorf("create ipvlan: %w", err)
		}
		return nil
	}
	attrs.HardwareAddr = e.HardwareAddr().HardwareAddr()
	if err := s.links.LinkAdd(&netlink.Macvlan{Mode: macvlanMode(e.MacvlanMode), LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("create macvlan: %w", err)
	}
	return nil
}

func macvlanMode(name string) netlink.MacvlanMode {
	switch name {
	case "private":
		return netlink.MACVLAN_MODE_PRIVATE
	case "vepa":
		return netlink.MACVLAN_MODE_VEPA
	case "passthru":
		return netlink.MACVLAN_MODE_PASSTHRU
	default:
		return netlink.MACVLAN_MODE_BRIDGE
	}
}

func ipvlan(attrs netlink.LinkAttrs, want shoal.IPvlan) *netlink.IPVlan {
	link := &netlink.IPVlan{LinkAttrs: attrs, Mode: netlink.IPVLAN_MODE_L2, Flag: netlink.IPVLAN_FLAG_BRIDGE}
	switch want.Mode {
	case "l3":
		link.Mode = netlink.IPVLAN_MODE_L3
	case "l3s":
		link.Mode = netlink.IPVLAN_MODE_L3S
	}
	switch want.Flag {
	case "private":
		link.Flag = netlink.IPVLAN_FLAG_PRIVATE
	case "vepa":
		link.Flag = netlink.IPVLAN_FLAG_VEPA
	}
	return link
}

// attachFarEnd puts the far end of an interface that is adopted on its bridge, and up, in case others have changed that. It returns its name.
func (s *Sandboxes) attachFarEnd(link netlink.Link, e config.Endpoint) (farEnd string, err error) {
	switch {
	case e.Bridge != "":
		return attach(s.links, link, e.Bridge, true)
	case e.Overlay != "":
		err = s.dir.Netlink(overlay.Namespace(e.Overlay), func(far *netlink.Handle, _ *netns.Namespace) error {
			farEnd, err = attach(far, link, overlay.BridgeName, false)
			return err
		})
	}
	return farEnd, err
}

func attach(far *netlink.Handle, link netlink.Link, bridge string, hairpin bool) (string, error) {
	br, err := far.LinkByName(bridge)
	if err != nil {
		return "", fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	end, err := far.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return "", fmt.Errorf("find far end: %w", err)
	}
	if end.Attrs().MasterIndex != br.Attrs().Index {
		if err := errors.Join(far.LinkSetMasterByIndex(end, br.Attrs().Index), far.LinkSetHairpin(end, hairpin)); err != nil {
			return "", fmt.Errorf("put far end on bridge %s: %w", bridge, err)
		}
	}
	if rtnl.IsUp(end) {
		return end.Attrs().Name, nil
	}
	return end.Attrs().Name, far.LinkSetUp(end)
}

// randomName is the name of a veth pair's far end.
func randomName() (string, error) {
	var b [5]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return "veth" + hex.EncodeToString(b[:]), nil
}
