package membership

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/rpc"
)

// Docker's words for addresses that are none.
var (
	errBadListen    = fmt.Errorf("listen address must be an IP address or network interface (with optional port number): %w", errdefs.ErrInvalidArgument)
	errBadAdvertise = plainInvalid("advertise address must be a non-zero IP address or network interface (with optional port number)")
	errBadDataPath  = plainInvalid("data path address must be a non-zero IP address or network interface (without a port number)")
)

// invalid is an invalid argument whose text is just what the user reads.
type invalid string

func (e invalid) Error() string { return string(e) }
func (invalid) Unwrap() error   { return errdefs.ErrInvalidArgument }

func plainInvalid(text string) error { return invalid(text) }

// listenAddress completes --listen-addr: "IP[:port]" or "INTERFACE[:port]".
func listenAddress(text string) (string, error) {
	if text == "" {
		text = "0.0.0.0"
	}
	host, port, err := splitPort(text, rpc.DefaultPort)
	if err != nil {
		return "", errBadListen
	}
	ip, err := resolve(host)
	if err != nil {
		return "", errBadListen
	}
	return net.JoinHostPort(ip.String(), port), nil
}

// advertiseAddress completes --advertise-addr; without one, the host's only address is taken, or the one it listens on.
func advertiseAddress(text, listen string) (ip netip.Addr, port string, err error) {
	listenHost, listenPort, _ := net.SplitHostPort(listen)
	if text == "" {
		if ip, err := netip.ParseAddr(listenHost); err == nil && !ip.IsUnspecified() {
			return ip, listenPort, nil
		}
		ip, err := onlyAddress()
		return ip, listenPort, err
	}
	defaultPort, _ := strconv.Atoi(listenPort)
	host, port, err := splitPort(text, defaultPort)
	if err != nil {
		return ip, "", errBadAdvertise
	}
	ip, err = resolve(host)
	if err != nil || ip.IsUnspecified() {
		return ip, "", errBadAdvertise
	}
	return ip, port, nil
}

// dataPathAddress completes --data-path-addr; empty stays empty.
func dataPathAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	ip, err := resolve(text)
	if err != nil || ip.IsUnspecified() {
		return "", errBadDataPath
	}
	return ip.String(), nil
}

func splitPort(text string, defaultPort int) (host, port string, err error) {
	if ip, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return ip.String(), strconv.Itoa(defaultPort), nil
	}
	if !strings.Contains(text, ":") {
		return text, strconv.Itoa(defaultPort), nil
	}
	host, port, err = net.SplitHostPort(text)
	if err != nil {
		return "", "", err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("invalid port %q", port)
	}
	return host, port, nil
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
		case err != nil || !p.Addr().IsGlobalUnicast():
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
	var found netip.Addr
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
			if ip.Is6() && found.IsValid() {
				continue
			}
			if found.IsValid() && found.Is4() {
				return found, choice(found, at, ip, iface.Name)
			}
			found, at = ip, iface.Name
		}
	}
	if !found.IsValid() {
		return found, plainInvalid("could not find the system's IP address - specify one with --advertise-addr")
	}
	return found, nil
}

func choice(a netip.Addr, at string, b netip.Addr, bt string) error {
	if at == bt {
		return plainInvalid(fmt.Sprintf("could not choose an IP address to advertise since this system has multiple addresses on interface %s (%s and %s) - specify one with --advertise-addr", at, a, b))
	}
	return plainInvalid(fmt.Sprintf("could not choose an IP address to advertise since this system has multiple addresses on different interfaces (%s on %s and %s on %s) - specify one with --advertise-addr", a, at, b, bt))
}
