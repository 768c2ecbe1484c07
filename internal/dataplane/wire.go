package dataplane

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// wireDevice is the node's interface for encrypted traffic.
const wireDevice = "wg-shoal"

// lastResort is the metric of the route that is taken when the wire is gone.
const lastResort = math.MaxInt32

func (p *Plane) applyWire(w *Wire) error {
	if w == nil || reflect.DeepEqual(p.applied.wire, w) {
		return nil
	}
	p.applied.wire = nil
	if err := p.makeWire(w); err != nil {
		return err
	}
	p.applied.wire = w
	return nil
}

func (p *Plane) makeWire(w *Wire) error {
	// What must not travel in clear has nowhere to go before there is the wire, and after it.
	if err := p.node.RouteReplace(dead(w.Range)); err != nil {
		return fmt.Errorf("close %s: %w", w.Range, err)
	}
	link, err := p.wireLink(w)
	if err != nil {
		return err
	}
	if link.Attrs().MTU != w.MTU {
		if err := p.node.LinkSetMTU(link, w.MTU); err != nil {
			return fmt.Errorf("set MTU of %s: %w", wireDevice, err)
		}
	}
	if err := p.wireOf(link).Apply(w.Config); err != nil {
		return err
	}
	if err := setAddresses(p.node, link, netip.PrefixFrom(w.Addr, w.Addr.BitLen())); err != nil {
		return err
	}
	if err := p.node.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", wireDevice, err)
	}
	if err := p.node.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipnet(w.Range), Src: w.Addr.AsSlice()}); err != nil {
		return fmt.Errorf("route %s through %s: %w", w.Range, wireDevice, err)
	}
	return nil
}

// dead is the route for the wire's addresses when there is no wire.
func dead(p netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipnet(p), Type: unix.RTN_UNREACHABLE, Priority: lastResort}
}

// wireOf is the control of the interface.
func (p *Plane) wireOf(link netlink.Link) wireguard.Device {
	if link.Type() == kernelWire {
		return wireguard.Kernel(wireDevice, p.InNode)
	}
	return wireguard.Process(p.process.socket())
}

const kernelWire = "wireguard"

// wireLink is the interface: the one that is there, the kernel's, or that of a process.
func (p *Plane) wireLink(w *Wire) (netlink.Link, error) {
	link, err := p.node.LinkByName(wireDevice)
	if err == nil {
		if _, err = p.wireOf(link).Handshakes(); err == nil {
			return link, nil
		}
		p.log.Warn("WireGuard interface cannot be controlled, making it anew", "err", err)
		if err := p.node.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove %s: %w", wireDevice, err)
		}
	} else if _, gone := errors.AsType[netlink.LinkNotFoundError](err); !gone {
		return nil, fmt.Errorf("find %s: %w", wireDevice, err)
	}
	err = p.node.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: wireDevice, MTU: w.MTU, TxQLen: -1}})
	if errors.Is(err, unix.EOPNOTSUPP) {
		p.log.Warn("this kernel has no WireGuard: a process of its own encrypts traffic, which is slower")
		err = p.startWire(w)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", wireDevice, err)
	}
	if link, err = p.node.LinkByName(wireDevice); err != nil {
		return nil, fmt.Errorf("find %s: %w", wireDevice, err)
	}
	return link, p.node.LinkSetAlias(link, ownAlias)
}

// pruneWire removes a wire that is no longer wanted. It comes after the overlays that used it are gone.
func (p *Plane) pruneWire(w *Wire, looked bool) error {
	if w != nil || looked && p.applied.wire == nil {
		return nil
	}
	p.applied.wire = nil
	return p.removeWire()
}

// removeWire also ends the process, which lives as long as its interface.
func (p *Plane) removeWire() error {
	link, err := p.node.LinkByName(wireDevice)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return p.openWire()
	}
	if err == nil && link.Attrs().Alias == ownAlias {
		err = p.node.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", wireDevice, err)
	}
	return p.openWire()
}

// openWire removes the routes of last resort.
func (p *Plane) openWire() error {
	closed, err := p.node.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Type: unix.RTN_UNREACHABLE}, netlink.RT_FILTER_TYPE)
	if err != nil {
		return fmt.Errorf("list closed routes: %w", err)
	}
	for _, r := range closed {
		if r.Priority != lastResort {
			continue
		}
		if err := p.node.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove closed route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

func (p *Plane) wireIntact(w *Wire, thorough bool) bool {
	link, err := p.node.LinkByName(wireDevice)
	if err != nil || link.Attrs().Flags&unix.IFF_UP == 0 || !hasAddress(p.node, link, netip.PrefixFrom(w.Addr, w.Addr.BitLen())) {
		return false
	}
	routes, err := p.node.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipnet(w.Range)}, netlink.RT_FILTER_DST)
	if err != nil {
		return false
	}
	through, closed := false, false
	for _, r := range routes {
		through = through || r.LinkIndex == link.Attrs().Index && r.Type == unix.RTN_UNICAST
		closed = closed || r.Type == unix.RTN_UNREACHABLE && r.Priority == lastResort
	}
	return through && closed && (!thorough || p.wireOf(link).Has(w.Config))
}

// Encryption says what encrypts this node's traffic, in words (nothing if nothing does), and when it last agreed on a key with the
// peers, by their public keys.
func (p *Plane) Encryption() (string, map[wireguard.Key]time.Time, error) {
	link, err := p.node.LinkByName(wireDevice)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("find %s: %w", wireDevice, err)
	}
	what := "WireGuard in a process (this kernel has none)"
	if link.Type() == kernelWire {
		what = "WireGuard in the kernel"
	}
	handshakes, err := p.wireOf(link).Handshakes()
	return what, handshakes, err
}

// encryptedRules let packets of encrypted overlays in and out by the wire alone, wherever they are addressed.
func encryptedRules(rs *ruleset, c *Config) {
	vnis, port := map[uint32]bool{}, uint16(0)
	for _, o := range c.Overlays {
		if o.Encrypted {
			vnis[o.VNI], port = true, o.Port
		}
	}
	if in := c.Ingress; in != nil && in.Encrypted {
		vnis[in.VNI], port = true, in.Port
	}
	if len(vnis) == 0 {
		return
	}
	set := rs.set("encrypted", nftables.TypeInteger)
	for vni := range vnis {
		set.add(be32(vni << 8))
	}
	// The VNI is in the second word of the VXLAN header, with a byte that is reserved.
	const header = 8
	vni := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: header + 4, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: be32(0xffffff00), Xor: make([]byte, 4)},
		&expr.Lookup{SourceRegister: 1, SetName: "encrypted"}}
	refuse := func(hook *nftables.ChainHook, name string, notByWire []expr.Any) {
		rs.base(name, nftables.ChainTypeFilter, hook, -305).rule(l4proto(unix.IPPROTO_UDP), dport(port), notByWire, vni, verdict(expr.VerdictDrop))
	}
	refuse(nftables.ChainHookPrerouting, "clear_in", iifNot(wireDevice))
	refuse(nftables.ChainHookOutput, "clear_out", oifNot(wireDevice))
}
