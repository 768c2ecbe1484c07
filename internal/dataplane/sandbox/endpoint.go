package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// applyEndpoints makes the sandbox have these interfaces and no other. An interface that is there with its MAC is adopted as it is. One that cannot be made
// does not keep the others from being made. It returns the names of their far ends, by endpoint.
func (s *Sandboxes) applyEndpoints(ns *netns.Namespace, want *config.Sandbox, bridges map[string]*config.Bridge) (map[string]string, error) {
	h, err := ns.Netlink()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	adopted, err := removeOthers(h, want.Endpoints)
	if err != nil {
		return nil, err
	}
	farEnds := map[string]string{}
	var errs []error
	for _, e := range want.Endpoints {
		link := adopted[e.Name]
		if link != nil {
			farEnds[e.Name], err = s.attachFarEnd(link, e)
		} else {
			link, farEnds[e.Name], err = s.createLink(h, ns, e, bridges)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("connect %s: %w", e.Name, err))
			continue
		}
		errs = append(errs, configure(h, ns, link, e))
	}
	return farEnds, errors.Join(errs...)
}

// removeOthers removes interfaces that are no endpoints, as far as they are of the kinds that endpoints are: others are made by the container itself. It
// returns those that are endpoints, by name.
func removeOthers(h *netlink.Handle, endpoints []config.Endpoint) (map[string]netlink.Link, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	adopted := map[string]netlink.Link{}
	for _, l := range links {
		name, mac := l.Attrs().Name, shoal.MACFrom(l.Attrs().HardwareAddr)
		if name == "lo" {
			continue
		}
		for _, e := range endpoints {
			if e.Name == name && (e.HardwareAddr() == mac || e.IPvlan != nil && l.Type() == typeIPvlan) {
				adopted[name] = l
			}
		}
		if adopted[name] != nil || l.Type() != "veth" && l.Type() != "bridge" && l.Type() != "macvlan" && l.Type() != typeIPvlan {
			continue
		}
		if err := h.LinkDel(l); err != nil {
			return nil, fmt.Errorf("remove interface %s: %w", name, err)
		}
	}
	return adopted, nil
}

// typeIPvlan is the type of an ipvlan interface.
const typeIPvlan = "ipvlan"

// configure gives the interface its addresses and routes, and sets it up.
func configure(h *netlink.Handle, ns *netns.Namespace, link netlink.Link, e config.Endpoint) error {
	if e.Addr6.IsValid() {
		if err := ns.Run(func() error { return netns.EnableIPv6(e.Name) }); err != nil {
			return fmt.Errorf("enable IPv6 on %s: %w", e.Name, err)
		}
	}
	if err := rtnl.SetAddresses(h, link, e.Addrs()...); err != nil {
		return err
	}
	for _, s := range e.Sysctls {
		if err := ns.Run(func() error { return netns.SetSysctl(s.Key, s.Value) }); err != nil {
			return fmt.Errorf("set %s to %q: %w", strings.ReplaceAll(s.Key, "/", "."), s.Value, err)
		}
	}
	if !rtnl.IsUp(link) {
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", e.Name, err)
		}
	}
	if err := setOnLinkRoutes(h, link, e); err != nil {
		return err
	}
	return setDefaultRoutes(h, link, e)
}

// setOnLinkRoutes routes a network's further subnets. None is taken away: a network never loses one while it is in use.
func setOnLinkRoutes(h *netlink.Handle, link netlink.Link, e config.Endpoint) error {
	for _, p := range e.OnLink {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: rtnl.IPNet(p), Scope: netlink.SCOPE_LINK}
		if p.Addr().Is4() {
			route.Src = e.Addr.Addr().AsSlice()
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s through %s: %w", p, e.Name, err)
		}
	}
	return nil
}

// setDefaultRoutes makes the default routes those of the endpoint, if it has some.
func setDefaultRoutes(h *netlink.Handle, link netlink.Link, e config.Endpoint) error {
	for _, r := range []struct {
		gateway  netip.Addr
		byDevice bool
		to       netip.Addr
	}{{e.Gateway, e.ByDevice, netip.IPv4Unspecified()}, {e.Gateway6, e.ByDevice6, netip.IPv6Unspecified()}} {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: rtnl.IPNet(rtnl.DefaultPrefix(r.to))}
		switch {
		case r.gateway.IsValid():
			route.Gw = r.gateway.AsSlice()
		case r.byDevice:
			route.Scope = netlink.SCOPE_LINK
		default:
			continue
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("set default route via %s: %w", r.gateway, err)
		}
	}
	return nil
}
