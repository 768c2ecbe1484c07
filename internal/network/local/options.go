package local

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Options of networks that are honoured.
const (
	optionBridgeName  = "com.docker.network.bridge.name"
	optionICC         = "com.docker.network.bridge.enable_icc"
	optionMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optionInhibitIPv4 = "com.docker.network.bridge.inhibit_ipv4"
	optionMode4       = "com.docker.network.bridge.gateway_mode_ipv4"
	optionMode6       = "com.docker.network.bridge.gateway_mode_ipv6"
	// optionTrusted is the interfaces of the node, separated by colons, from which published ports are reached at the containers' own addresses.
	optionTrusted = "com.docker.network.bridge.trusted_host_interfaces"
	// optionSource4 and optionSource6 are the addresses that replace the containers' in what leaves the node.
	optionSource4 = "com.docker.network.host_ipv4"
	optionSource6 = "com.docker.network.host_ipv6"
	// optionEnableIPv4 and optionEnableIPv6 stand for the fields of the request, which come before them.
	optionEnableIPv4 = "com.docker.network.enable_ipv4"
	optionEnableIPv6 = "com.docker.network.enable_ipv6"
	// optionParent is the node's interface that a macvlan or ipvlan network is on.
	optionParent      = "parent"
	optionMacvlanMode = "macvlan_mode"
	optionIPvlanMode  = "ipvlan_mode"
	optionIPvlanFlag  = "ipvlan_flag"
)

// withFamilies reads the options that stand for EnableIPv4 and EnableIPv6.
func withFamilies(spec shoal.NetworkSpec) (shoal.NetworkSpec, error) {
	for name, set := range map[string]func(bool){
		optionEnableIPv4: func(on bool) {
			if spec.EnableIPv4 == nil {
				spec.EnableIPv4 = &on
			}
		},
		optionEnableIPv6: func(on bool) { spec.EnableIPv6 = spec.EnableIPv6 || on },
	} {
		text, ok := spec.Options[name]
		if !ok {
			continue
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			return spec, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("driver-opt %q is not a valid bool", name))
		}
		set(on)
	}
	return spec, nil
}

// checkOptions refuses values of a bridge's options that cannot be honoured, in Docker's words.
func checkOptions(spec shoal.NetworkSpec) error {
	for _, name := range []string{optionICC, optionMasquerade, optionInhibitIPv4} {
		if text, ok := spec.Options[name]; ok {
			if _, err := strconv.ParseBool(text); err != nil {
				return notParsed(name, text, err.Error())
			}
		}
	}
	if text, ok := spec.Options[shoal.OptionMTU]; ok {
		mtu, err := strconv.Atoi(text)
		if err != nil {
			return notParsed(shoal.OptionMTU, text, err.Error())
		}
		if mtu < 0 {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid MTU number: %d", mtu))
		}
	}
	for _, name := range []string{optionHostBinding, optionSource4, optionSource6} {
		if text, ok := spec.Options[name]; ok {
			if a, err := netip.ParseAddr(text); err != nil || a.Is4() == (name == optionSource6) {
				return notParsed(name, text, "invalid ip")
			}
		}
	}
	for _, name := range []string{optionMode4, optionMode6} {
		text, ok := spec.Options[name]
		mode := shoal.GatewayMode(text)
		switch {
		case !ok || mode == shoal.GatewayNAT || mode == shoal.GatewayUnprotected || mode == shoal.GatewayRouted:
		case mode != shoal.GatewayIsolated:
			return notParsed(name, text, "unknown gateway mode "+text)
		case !spec.Internal:
			return errdefs.ErrInvalidArgument.WithMessage("gateway mode 'isolated' can only be used for an internal network")
		}
	}
	for _, name := range trusted(spec) {
		if !shoal.ValidInterfaceName(name) {
			return notParsed(optionTrusted, spec.Options[optionTrusted], fmt.Sprintf("invalid interface name %q", name))
		}
	}
	return nil
}

func notParsed(name, value, why string) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to parse %s value: %s (%s)", name, value, why))
}

// checkFamilies refuses subnets that no network of the driver can have, in Docker's words where it has some.
func checkFamilies(spec shoal.NetworkSpec) error {
	ipv4, number := spec.HasIPv4(), map[bool]int{}
	if !ipv4 && !spec.EnableIPv6 && allocates(spec.Driver) {
		return errdefs.ErrInvalidArgument.WithMessage("IPv4 or IPv6 must be enabled")
	}
	for _, s := range spec.IPAM {
		is4 := s.Subnet.Addr().Is4()
		switch {
		case !s.Subnet.IsValid():
			continue
		case is4 && !ipv4:
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid subnet %s: IPv4 has not been enabled for this network", s.Subnet))
		case !is4 && !spec.EnableIPv6:
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid subnet %s: IPv6 has not been enabled for this network", s.Subnet))
		}
		if number[is4]++; number[is4] == 1 {
			continue
		}
		if spec.Driver == shoal.DriverBridge {
			return errdefs.ErrPermissionDenied.WithMessage("bridge driver doesn't support multiple subnets")
		}
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("%s networks have one subnet of each family: %s is one too many", spec.Driver, s.Subnet))
	}
	return nil
}

// checkIPAMDriver refuses drivers that allocate no addresses here.
func checkIPAMDriver(name string) error {
	switch name {
	case "", "default":
		return nil
	case "null":
		return errdefs.ErrNotImplemented.WithMessage("the IPAM driver null is not supported: interfaces get their addresses from the node")
	default:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", name))
	}
}

// trusted is the interfaces that a spec trusts.
func trusted(spec shoal.NetworkSpec) []string {
	if spec.Options[optionTrusted] == "" {
		return nil
	}
	return strings.Split(spec.Options[optionTrusted], ":")
}

// ICC tells whether the containers of a bridge may talk to each other.
func (n *Network) ICC() bool { return n.option(optionICC) }

// Masquerade tells whether what leaves the node from a bridge gets the node's address.
func (n *Network) Masquerade() bool { return n.option(optionMasquerade) }

// option is a setting that is on unless it is turned off.
func (n *Network) option(name string) bool {
	on, err := strconv.ParseBool(n.Spec.Options[name])
	return on || err != nil
}

// MTU is the one that was asked for, in bytes; 0 for the default.
func (n *Network) MTU() int {
	mtu, _ := strconv.Atoi(n.Spec.Options[shoal.OptionMTU])
	return mtu
}

// Modes are how the bridge's containers are reached from outside, by IPv4 and by IPv6.
func (n *Network) Modes() (mode4, mode6 shoal.GatewayMode) {
	return shoal.GatewayMode(n.Spec.Options[optionMode4]), shoal.GatewayMode(n.Spec.Options[optionMode6])
}

// NoIPv4Address tells that the gateway's address is somebody else's: the bridge does not get it.
func (n *Network) NoIPv4Address() bool { return inhibitsIPv4(n.Spec) }

func inhibitsIPv4(spec shoal.NetworkSpec) bool {
	on, err := strconv.ParseBool(spec.Options[optionInhibitIPv4])
	return on && err == nil
}

// Trusted is the interfaces of the node from which published ports are reached at the containers' own addresses.
func (n *Network) Trusted() []string { return slices.Clone(trusted(n.Spec)) }

// Sources are the addresses that replace the containers' in what leaves the node; invalid for that of the interface by which it leaves.
func (n *Network) Sources() (source4, source6 netip.Addr) {
	source4, _ = netip.ParseAddr(n.Spec.Options[optionSource4])
	source6, _ = netip.ParseAddr(n.Spec.Options[optionSource6])
	return source4, source6
}

// needsGateway tells whether the family has an address of the network that routes lead to.
func needsGateway(spec shoal.NetworkSpec, is4 bool) bool {
	mode := optionMode6
	if is4 {
		mode = optionMode4
	}
	switch spec.Driver {
	case shoal.DriverBridge:
		return spec.Options[mode] != string(shoal.GatewayIsolated) && (!is4 || !spec.Internal || !inhibitsIPv4(spec))
	case shoal.DriverIPvlan:
		return !spec.Internal && spec.Options[optionParent] != "" && (spec.Options[optionIPvlanMode] == "" || spec.Options[optionIPvlanMode] == modeL2)
	default:
		return !spec.Internal && spec.Options[optionParent] != ""
	}
}
