package convert

import (
	"maps"
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// optionVXLANID is the driver option under which Docker shows the VXLAN network identifiers of an overlay network.
const optionVXLANID = "com.docker.network.driver.overlay.vxlanid_list"

// ToAPINetworkOptions is the options of a network's driver, with the VXLAN network identifier of an overlay network among them
// once it has one. The map is the caller's own and never nil.
func ToAPINetworkOptions(n *shoal.Network) map[string]string {
	out := map[string]string{}
	maps.Copy(out, n.Spec.Options)
	if n.VNI != 0 {
		out[optionVXLANID] = strconv.FormatUint(uint64(n.VNI), 10)
	}
	return out
}

// HasIPv6 is what the user asked for, and true of an ingress network that was given an IPv6 subnet unasked.
func HasIPv6(n *shoal.Network) bool {
	return n.Spec.EnableIPv6 || slices.ContainsFunc(n.IPAM, func(s shoal.Subnet) bool { return Prefix(s.Subnet).Addr().Is6() })
}
