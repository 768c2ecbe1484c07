package local

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// DefaultBridge is what the node's settings say of the network "bridge".
type DefaultBridge struct {
	Disabled bool
	Given    string       // a bridge that somebody else has made; empty for one of our own
	Spare    string       // the name of our own if another daemon of the network namespace has docker0
	Addr     netip.Prefix // of the interface, with the length of the subnet; invalid for a subnet of the pools
	Addr6    netip.Prefix
	Range    netip.Prefix // where containers get their addresses from; invalid for all of the subnet
	Range6   netip.Prefix
	IPv6     bool
	MTU      int // bytes; 0 for 1500
	NoICC    bool
	NoMasq   bool
	HostIP   netip.Addr // where ports are published that name no address; invalid for all
}

const (
	dockerBridge      = "docker0"
	spareBridge       = "docker-" // begins the name of the bridge of a daemon that finds docker0 taken
	spareGateway      = "dgw-"    // the same for docker_gwbridge
	optionHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optionDefaultMark = "com.docker.network.bridge.default_bridge"
	defaultBridgeMTU  = 1500
	anyAddress        = "0.0.0.0"
)

// spec is the network that the settings ask for.
func (b *DefaultBridge) spec(host Host) (shoal.NetworkSpec, error) {
	name, given := dockerBridge, b.Given != ""
	switch {
	case given:
		name = b.Given
	case b.Spare != "" && host.IsOthers(dockerBridge):
		name = b.Spare
	}
	mtu, ip := b.MTU, anyAddress
	if mtu == 0 {
		mtu = defaultBridgeMTU
	}
	if b.HostIP.IsValid() {
		ip = b.HostIP.String()
	}
	spec := shoal.NetworkSpec{Name: shoal.DefaultBridgeName, Driver: shoal.DriverBridge, Scope: shoal.ScopeLocal, EnableIPv6: b.IPv6, Options: map[string]string{
		optionDefaultMark: "true", optionICC: strconv.FormatBool(!b.NoICC), optionMasquerade: strconv.FormatBool(!b.NoMasq),
		optionHostBinding: ip, optionBridgeName: name, shoal.OptionMTU: strconv.Itoa(mtu)}}
	addr := b.Addr
	if given {
		has, err := host.BridgeAddr(name)
		if err != nil {
			return spec, err
		}
		addr = has
	}
	for _, family := range []struct{ addr, within netip.Prefix }{{addr, b.Range}, {b.Addr6, b.Range6}} {
		subnet := shoal.Subnet{Range: family.within}
		switch {
		case family.addr.IsValid():
			subnet.Subnet, subnet.Gateway = family.addr.Masked(), family.addr.Addr()
		case family.within.IsValid():
			subnet = shoal.Subnet{Subnet: family.within.Masked()}
		default:
			continue
		}
		if subnet.Range.IsValid() && (!subnet.Subnet.Overlaps(subnet.Range) || subnet.Range.Bits() < subnet.Subnet.Bits()) {
			return spec, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("no matching subnet for range %s", subnet.Range))
		}
		spec.IPAM = append(spec.IPAM, subnet)
	}
	return spec, nil
}

// ensureDefaultBridge makes the network "bridge" what the settings ask for. While containers are on another one, that stays.
func (n *Networks) ensureDefaultBridge(taken []netip.Prefix, inUse func(*Network) bool) error {
	settings, have := &n.cfg.DefaultBridge, n.Find(shoal.DefaultBridgeName)
	if have != nil && have.Spec.Name != shoal.DefaultBridgeName {
		have = nil // its ID begins so
	}
	var spec shoal.NetworkSpec
	if !settings.Disabled {
		var err error
		if spec, err = settings.spec(n.cfg.Host); err != nil {
			return fmt.Errorf("error creating default \"bridge\" network: %w", err)
		}
	}
	switch {
	case have == nil && settings.Disabled, have != nil && !settings.Disabled && sameSpec(have.Spec, spec):
		return nil
	case have != nil && inUse(have):
		return errdefs.ErrUnavailable.WithMessage("there are running containers on it: its settings take effect when they have ended")
	}
	if have != nil {
		n.Forget(have)
	}
	if settings.Disabled {
		return n.RemoveRecord(have)
	}
	if have != nil && len(spec.IPAM) == 0 && len(have.Spec.IPAM) == 0 && !spec.EnableIPv6 {
		spec.IPAM = have.IPAM[:1] // it keeps the subnet that it was given
	}
	_, err := n.createSaved(spec, taken)
	if have != nil {
		if err != nil {
			n.Restore(have)
			return err
		}
		return n.RemoveRecord(have)
	}
	if err != nil {
		return fmt.Errorf("create network %s: %w", spec.Name, err)
	}
	return nil
}

// sameSpec compares what was asked for.
func sameSpec(a, b shoal.NetworkSpec) bool {
	if len(b.IPAM) == 0 && !b.EnableIPv6 {
		a.IPAM = nil // it was kept
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// Given tells whether the network's bridge was made by somebody else.
func (n *Network) Given() bool {
	return n.Spec.Options[optionDefaultMark] == "true" && n.Bridge() != dockerBridge && !strings.HasPrefix(n.Bridge(), spareBridge)
}

// HostIP is where ports are published that name no address; invalid for all addresses.
func (n *Network) HostIP() netip.Addr {
	a, err := netip.ParseAddr(n.Spec.Options[optionHostBinding])
	if err != nil || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
