package local

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// A configuration-only network is settings under a name, for other networks to be made from. No container can be on it.

// resolveConfigFrom checks a spec that is, or depends on, a configuration-only network, and completes it. The words are Docker's.
func (n *Networks) resolveConfigFrom(spec shoal.NetworkSpec) (shoal.NetworkSpec, error) {
	if spec.ConfigOnly {
		if spec.Ingress || spec.Internal || spec.Attachable || spec.Scope != "" {
			return spec, errdefs.ErrPermissionDenied.WithMessage("configuration network can only contain network specific fields. Network operator fields like " +
				"[ ingress | internal | attachable | scope ] are not supported.")
		}
		if spec.ConfigFrom != "" {
			return spec, errdefs.ErrPermissionDenied.WithMessage("a configuration network cannot depend on another configuration network")
		}
		spec.Driver = shoal.DriverNull
		return spec, nil
	}
	if spec.ConfigFrom == "" {
		return spec, nil
	}
	if spec.EnableIPv6 || len(spec.Labels)+len(spec.Options)+len(spec.IPAMOptions)+len(spec.IPAM) > 0 {
		return spec, errdefs.ErrPermissionDenied.WithMessage("user specified configurations are not supported if the network depends on a configuration network")
	}
	from := n.Find(spec.ConfigFrom)
	if from == nil || !from.Spec.ConfigOnly {
		return spec, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("configuration network %q does not exist", spec.ConfigFrom))
	}
	spec.EnableIPv4, spec.EnableIPv6, spec.Labels, spec.Options = from.Spec.EnableIPv4, from.Spec.EnableIPv6, from.Spec.Labels, from.Spec.Options
	spec.IPAMDriver, spec.IPAMOptions, spec.IPAM = from.Spec.IPAMDriver, from.Spec.IPAMOptions, from.Spec.IPAM
	return spec, nil
}

// configOnlySubnets returns the subnets of a configuration-only network unchanged: addresses are allocated only on networks made from it.
func configOnlySubnets(spec shoal.NetworkSpec) ([]shoal.Subnet, error) {
	for _, s := range spec.IPAM {
		if !s.Subnet.IsValid() {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid subnet %s: invalid CIDR block notation", shoal.TextOf(s.Subnet)))
		}
	}
	return spec.IPAM, nil
}

// dependent is a network made from the configuration-only network l; nil if there is none.
func (n *Networks) dependent(l *Network) *Network {
	for _, other := range n.byID {
		if l.Spec.ConfigOnly && n.Find(other.Spec.ConfigFrom) == l {
			return other
		}
	}
	return nil
}
