package network

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// A configuration-only network is settings under a name, for other networks to be made from. No container can be on it.

// configuredLocked checks a spec that is, or depends on, a configuration-only network, and completes it. The words are Docker's.
func (n *Networks) configuredLocked(spec shoal.NetworkSpec) (shoal.NetworkSpec, error) {
	if spec.ConfigOnly {
		if spec.Ingress || spec.Internal || spec.Attachable || spec.Scope != "" {
			return spec, fmt.Errorf("configuration network can only contain network specific fields. Network operator fields like "+
				"[ ingress | internal | attachable | scope ] are not supported.%w", hidden{errdefs.ErrPermissionDenied})
		}
		if spec.ConfigFrom != "" {
			return spec, fmt.Errorf("a configuration network cannot depend on another configuration network%w", hidden{errdefs.ErrPermissionDenied})
		}
		spec.Driver = shoal.DriverNull
		return spec, nil
	}
	if spec.ConfigFrom == "" {
		return spec, nil
	}
	if spec.EnableIPv6 || len(spec.Labels)+len(spec.Options)+len(spec.IPAMOptions)+len(spec.IPAM) > 0 {
		return spec, fmt.Errorf("user specified configurations are not supported if the network depends on a configuration network%w", hidden{errdefs.ErrPermissionDenied})
	}
	from := n.localLocked(spec.ConfigFrom)
	if from == nil || !from.Spec.ConfigOnly {
		return spec, fmt.Errorf("configuration network %q does not exist%w", spec.ConfigFrom, hidden{errdefs.ErrNotFound})
	}
	spec.EnableIPv4, spec.EnableIPv6, spec.Labels, spec.Options = from.Spec.EnableIPv4, from.Spec.EnableIPv6, from.Spec.Labels, from.Spec.Options
	spec.IPAMDriver, spec.IPAMOptions, spec.IPAM = from.Spec.IPAMDriver, from.Spec.IPAMOptions, from.Spec.IPAM
	return spec, nil
}

// settings are a configuration-only network's subnets: as they were given, since nothing is allocated yet.
func settings(spec shoal.NetworkSpec) ([]shoal.Subnet, error) {
	for _, s := range spec.IPAM {
		if !s.Subnet.IsValid() {
			return nil, fmt.Errorf("invalid subnet %s: invalid CIDR block notation%w", shoal.TextOf(s.Subnet), hidden{errdefs.ErrInvalidArgument})
		}
	}
	return spec.IPAM, nil
}

// dependentLocked is a network made from the configuration-only network l; nil if there is none.
func (n *Networks) dependentLocked(l *localNetwork) *localNetwork {
	for _, other := range n.locals {
		if l.Spec.ConfigOnly && n.localLocked(other.Spec.ConfigFrom) == l {
			return other
		}
	}
	return nil
}
