package local

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Names of predefined networks, next to shoal.DefaultBridgeName.
const (
	hostName = "host"
	noneName = "none"
)

// CreatePredefined makes the networks that every node has, as far as they are missing, and the default bridge what the settings ask for, unless it is in use.
// taken is as for Create.
func (n *Networks) CreatePredefined(taken []netip.Prefix, inUse func(*Network) bool) error {
	if err := n.ensureDefaultBridge(taken, inUse); err != nil {
		return fmt.Errorf("network %s: %w", shoal.DefaultBridgeName, err)
	}
	for name, spec := range map[string]shoal.NetworkSpec{
		hostName: {Driver: shoal.DriverHost},
		noneName: {Driver: shoal.DriverNull},
	} {
		if n.Find(name) != nil {
			continue
		}
		spec.Name, spec.Scope = name, shoal.ScopeLocal
		if _, err := n.createSaved(spec, taken); err != nil {
			return fmt.Errorf("create network %s: %w", name, err)
		}
	}
	return nil
}

// EnsureGatewayBridge returns the bridge by which tasks reach the outside, and makes it if it is missing. It has IPv6 if the node has an address
// that reaches beyond its links. taken is as for Create.
func (n *Networks) EnsureGatewayBridge(taken []netip.Prefix) (*Network, error) {
	if l := n.Find(shoal.GwbridgeName); l != nil {
		return l, nil
	}
	addrs6, err := n.cfg.Host.Addrs6(append(n.Subnets(), taken...))
	if err != nil {
		return nil, fmt.Errorf("look for IPv6 addresses: %w", err)
	}
	name := shoal.GwbridgeName
	if spare := n.cfg.DefaultBridge.Spare; spare != "" && n.cfg.Host.IsOthers(name) {
		name = strings.Replace(spare, spareBridge, spareGateway, 1)
	}
	l, err := n.createSaved(shoal.NetworkSpec{Name: shoal.GwbridgeName, Driver: shoal.DriverBridge, Scope: shoal.ScopeLocal, EnableIPv6: len(addrs6) > 0,
		Options: map[string]string{optionICC: "false", optionMasquerade: "true", optionBridgeName: name}}, taken)
	if err != nil {
		return nil, fmt.Errorf("create network %s: %w", shoal.GwbridgeName, err)
	}
	return l, nil
}
