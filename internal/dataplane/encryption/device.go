// Package encryption makes the node's one WireGuard interface, by which everything travels that is encrypted, and the routes and rules that keep it
// from travelling by any other way. It reads and writes that interface, the routes to tunnel addresses in the node's namespace, and rulesets
// (package nft). Where the kernel has no WireGuard it starts a process that has (process.go).
package encryption

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// DeviceName is the WireGuard interface in the node's namespace.
const DeviceName = "wg-shoal"

// kernelType is the type of links that the kernel itself encrypts; that of a process is a TUN device.
const kernelType = "wireguard"

// unreachableMetric is the metric of the route that is taken when the interface is gone: any other comes first.
const unreachableMetric = math.MaxInt32

// Device is the node's WireGuard interface. Only Status may be called while another method is at work.
type Device struct {
	log     *slog.Logger
	node    *netns.Namespace
	links   *netlink.Handle // in node
	owner   string
	process Process

	applied *config.WireGuard // nil while there is none, or it is not known to be as it should
	// searched tells that nothing is left of the interface, if applied is nil.
	searched bool
}

// New is the interface in the node's namespace, whose alias is owner. links is an rtnetlink socket in it.
func New(log *slog.Logger, node *netns.Namespace, links *netlink.Handle, owner string, process Process) *Device {
	return &Device{log: log, node: node, links: links, owner: owner, process: process}
}

// Forget makes the next Apply and Prune look at the kernel itself.
func (d *Device) Forget() { d.applied, d.searched = nil, false }

// Applied tells whether there is an interface.
func (d *Device) Applied() bool { return d.applied != nil }

// Apply makes the interface as it should be. It does nothing if that is what was last applied, or if want is nil: then see Prune.
func (d *Device) Apply(want *config.WireGuard) error {
	if want == nil || reflect.DeepEqual(d.applied, want) {
		return nil
	}
	d.Forget()
	if err := d.apply(want); err != nil {
		return err
	}
	d.applied = want
	return nil
}

func (d *Device) apply(want *config.WireGuard) error {
	// Packets that must not travel in clear have nowhere to go before the interface is there, and after it is gone.
	if err := d.links.RouteReplace(unreachable(want)); err != nil {
		return fmt.Errorf("make %s unreachable: %w", want.Range, err)
	}
	link, err := d.link(want)
	if err != nil {
		return err
	}
	if link.Attrs().MTU != want.MTU {
		if err := d.links.LinkSetMTU(link, want.MTU); err != nil {
			return fmt.Errorf("set MTU of %s: %w", DeviceName, err)
		}
	}
	if err := d.control(link).Apply(want.Config); err != nil {
		return err
	}
	if err := rtnl.SetAddresses(d.links, link, rtnl.HostPrefix(want.Addr)); err != nil {
		return err
	}
	if err := d.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", DeviceName, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: rtnl.IPNet(want.Range), Src: want.Addr.AsSlice()}
	if err := d.links.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s through %s: %w", want.Range, DeviceName, err)
	}
	return nil
}

// unreachable is the route for tunnel addresses when there is no interface.
func unreachable(want *config.WireGuard) *netlink.Route {
	return &netlink.Route{Dst: rtnl.IPNet(want.Range), Type: unix.RTN_UNREACHABLE, Priority: unreachableMetric}
}

// control is the way to the interface's keys and peers.
func (d *Device) control(link netlink.Link) wireguard.Device {
	if link.Type() == kernelType {
		return wireguard.Kernel(DeviceName, d.node.Run)
	}
	return wireguard.Process(d.process.Socket())
}

// link is the interface: the one that is there, if it can be controlled; or else a new one, the kernel's or that of a process.
func (d *Device) link(want *config.WireGuard) (netlink.Link, error) {
	link, err := d.links.LinkByName(DeviceName)
	switch {
	case err == nil:
		if _, err = d.control(link).Handshakes(); err == nil {
			return link, nil
		}
		d.log.Warn("WireGuard interface cannot be controlled: it is replaced, encrypted traffic stops until then", "interface", DeviceName, "err", err)
		if err := d.links.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove %s: %w", DeviceName, err)
		}
	case !rtnl.NotFound(err):
		return nil, fmt.Errorf("find %s: %w", DeviceName, err)
	}
	err = d.links.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: DeviceName, MTU: want.MTU, TxQLen: -1}})
	if errors.Is(err, unix.EOPNOTSUPP) {
		d.log.Warn("this kernel has no WireGuard: a process encrypts traffic instead, which is slower")
		err = d.startProcess(want)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", DeviceName, err)
	}
	if link, err = d.links.LinkByName(DeviceName); err != nil {
		return nil, fmt.Errorf("find %s: %w", DeviceName, err)
	}
	return link, d.links.LinkSetAlias(link, d.owner)
}

// Prune removes the interface and its routes if want is nil. It must come after the overlays that used it are gone. With the interface ends the
// process that serves it.
func (d *Device) Prune(want *config.WireGuard) error {
	if want != nil || d.applied == nil && d.searched {
		return nil
	}
	d.Forget()
	link, err := d.links.LinkByName(DeviceName)
	if err == nil && link.Attrs().Alias == d.owner {
		err = d.links.LinkDel(link)
	}
	if err != nil && !rtnl.NotFound(err) {
		return fmt.Errorf("remove %s: %w", DeviceName, err)
	}
	if err := d.removeUnreachable(); err != nil {
		return err
	}
	d.searched = true
	return nil
}

func (d *Device) removeUnreachable() error {
	routes, err := d.links.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Type: unix.RTN_UNREACHABLE}, netlink.RT_FILTER_TYPE)
	if err != nil {
		return fmt.Errorf("list unreachable routes: %w", err)
	}
	for _, r := range routes {
		if r.Priority != unreachableMetric {
			continue
		}
		if err := d.links.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove unreachable route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

// Drifted compares the kernel with what was applied. If others have changed it, it is forgotten. The interface's keys and peers are compared only if
// thorough is set.
func (d *Device) Drifted(thorough bool) bool {
	if d.applied == nil || d.intact(d.applied, thorough) {
		return false
	}
	d.Forget()
	return true
}

func (d *Device) intact(want *config.WireGuard, thorough bool) bool {
	link, err := d.links.LinkByName(DeviceName)
	if err != nil || !rtnl.IsUp(link) || !rtnl.HasAddresses(d.links, link, rtnl.HostPrefix(want.Addr)) {
		return false
	}
	routes, err := d.links.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: rtnl.IPNet(want.Range)}, netlink.RT_FILTER_DST)
	if err != nil {
		return false
	}
	through, blocked := false, false
	for _, r := range routes {
		through = through || r.LinkIndex == link.Attrs().Index && r.Type == unix.RTN_UNICAST
		blocked = blocked || r.Type == unix.RTN_UNREACHABLE && r.Priority == unreachableMetric
	}
	return through && blocked && (!thorough || d.control(link).Has(want.Config))
}

// Status says what encrypts the node's traffic, as text for users, empty if nothing does; and when it last agreed on a session key with each
// peer, by the peer's public key, the zero time for never.
func (d *Device) Status() (string, map[wireguard.Key]time.Time, error) {
	link, err := d.links.LinkByName(DeviceName)
	if rtnl.NotFound(err) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("find %s: %w", DeviceName, err)
	}
	what := "WireGuard in a process (this kernel has none)"
	if link.Type() == kernelType {
		what = "WireGuard in the kernel"
	}
	handshakes, err := d.control(link).Handshakes()
	return what, handshakes, err
}
