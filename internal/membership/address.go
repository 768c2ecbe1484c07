package membership

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/rpc"
)

// Docker's words for addresses that are none.
var (
	errBadListen    = fmt.Errorf("listen address must be an IP address or network interface (with optional port number): %w", errdefs.ErrInvalidArgument)
	errBadAdvertise = errdefs.ErrInvalidArgument.WithMessage("advertise address must be a non-zero IP address or network interface (with optional port number)")
	errBadDataPath  = errdefs.ErrInvalidArgument.WithMessage("data path address must be a non-zero IP address or network interface (without a port number)")
)

// listenAddress completes --listen-addr: "IP[:port]" or "INTERFACE[:port]".
func listenAddress(text string) (netip.AddrPort, error) {
	if text == "" {
		text = "0.0.0.0"
	}
	host, port, err := splitPort(text, rpc.DefaultPort)
	if err != nil {
		return netip.AddrPort{}, errBadListen
	}
	ip, err := resolve(host)
	if err != nil {
		return netip.AddrPort{}, errBadListen
	}
	return netip.AddrPortFrom(ip, port), nil
}

// advertiseAddress completes --advertise-addr; without one, the host's only address is taken, or the one it listens on.
func advertiseAddress(text string, listen netip.AddrPort) (netip.AddrPort, error) {
	if text == "" {
		if !listen.Addr().IsUnspecified() {
			return listen, nil
		}
		ip, err := onlyAddress()
		return netip.AddrPortFrom(ip, listen.Port()), err
	}
	host, port, err := splitPort(text, listen.Port())
	if err != nil {
		return netip.AddrPort{}, errBadAdvertise
	}
	ip, err := resolve(host)
	if err != nil || ip.IsUnspecified() {
		return netip.AddrPort{}, errBadAdvertise
	}
	return netip.AddrPortFrom(ip, port), nil
}

// dataPathAddress reads --data-path-addr; without one the result is not valid.
func dataPathAddress(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	ip, err := resolve(text)
	if err != nil || ip.IsUnspecified() {
		return netip.Addr{}, errBadDataPath
	}
	return ip, nil
}

// interfaceOf is the name of the interface that has an address; empty if none has.
func interfaceOf(addr netip.Addr) string {
	ifaces, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for i := range ifaces {
		addrs, err := usableAddresses(&ifaces[i])
		if err == nil && slices.Contains(addrs, addr) {
			return ifaces[i].Name
		}
	}
	return ""
}

// followAddress gives the state the present address of the interface that had the node's, if no interface has that any more: the machine has another lease, or
// was moved.
func (m *Membership) followAddress(state *State) {
	if state.Interface == "" || interfaceOf(state.AdvertiseAddr) != "" {
		return
	}
	now, err := resolve(state.Interface)
	if err != nil {
		m.cfg.Log.Warn("the node's address is on no interface any more, and its interface has no other", "addr", state.AdvertiseAddr, "interface", state.Interface, "err", err)
		return
	}
	before := *state
	state.AdvertiseAddr = now
	if state.ListenAddr.Addr() == before.AdvertiseAddr {
		state.ListenAddr = netip.AddrPortFrom(now, state.ListenAddr.Port())
	}
	if state.DataPathAddr == before.AdvertiseAddr {
		state.DataPathAddr = now
	}
	state.Managers = slices.Clone(state.Managers)
	for i, addr := range state.Managers {
		if addr == before.NodeAddr() {
			state.Managers[i] = state.NodeAddr()
		}
	}
	m.cfg.Log.Warn("the node has another address; it is published to the other nodes", "before", before.AdvertiseAddr, "now", now)
	if err := m.saveState(*state); err != nil {
		m.cfg.Log.Warn("the node's new address cannot be saved; it is looked for again at the next start", "err", err)
	}
}

// splitPort takes "host", "host:port" or an IPv6 address with or without brackets apart.
func splitPort(text string, defaultPort uint16) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return ip.String(), defaultPort, nil
	}
	if !strings.Contains(text, ":") {
		return text, defaultPort, nil
	}
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("invalid port %q", number)
	}
	return host, uint16(n), nil
}

// resolve reads an IP address or takes an interface's first one, IPv4 before IPv6.
func resolve(host string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, nil
	}
	iface, err := net.InterfaceByName(host)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := usableAddresses(iface)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("interface %s has no usable address", host)
	}
	return addrs[0], nil
}

func usableAddresses(iface *net.Interface) ([]netip.Addr, error) {
	all, err := iface.Addrs()
	if err != nil {
		return nil, err
	}
	var v4, v6 []netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || !p.Addr().IsGlobalUnicast() && !p.Addr().IsLoopback():
		case p.Addr().Is4():
			v4 = append(v4, p.Addr())
		default:
			v6 = append(v6, p.Addr())
		}
	}
	return append(v4, v6...), nil
}

// onlyAddress is the address to advertise when nothing is said: there must be just one to choose from. Bridges of ours do not count.
func onlyAddress() (netip.Addr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, err
	}
	var newInitialState netip.Addr
	var at string
	for i := range ifaces {
		iface := &ifaces[i]
		if iface.Flags&net.FlagUp == 0 || iface.Flags&net.FlagLoopback != 0 || strings.HasPrefix(iface.Name, "docker") ||
			strings.HasPrefix(iface.Name, "br-") || strings.HasPrefix(iface.Name, "veth") {
			continue
		}
		addrs, err := usableAddresses(iface)
		if err != nil {
			continue
		}
		for _, ip := range addrs {
			if ip.Is6() && newInitialState.IsValid() {
				continue
			}
			if newInitialState.IsValid() && newInitialState.Is4() {
				return newInitialState, ambiguousAddress(newInitialState, at, ip, iface.Name)
			}
			newInitialState, at = ip, iface.Name
		}
	}
	if !newInitialState.IsValid() {
		return newInitialState, errdefs.ErrInvalidArgument.WithMessage("could not find the system's IP address - specify one with --advertise-addr")
	}
	return newInitialState, nil
}

func ambiguousAddress(a netip.Addr, at string, b netip.Addr, bt string) error {
	if at == bt {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("could not choose an IP address to advertise since this system has multiple addresses on interface %s (%s and %s) - specify one with --advertise-addr", at, a, b))
	}
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("could not choose an IP address to advertise since this system has multiple addresses on different interfaces (%s on %s and %s on %s) - specify one with --advertise-addr", a, at, b, bt))
}
