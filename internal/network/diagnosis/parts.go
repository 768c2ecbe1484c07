package diagnosis

import (
	"strings"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// DescribeParts turns part names of the data plane into descriptions for users.
func DescribeParts(parts []string, networks map[shoal.NetworkID]shoal.Network, sandboxes *sandbox.Set) []string {
	names := map[string]string{dataplane.PartIngress: "routing mesh (device, forwarding entries, routes or routing rules)", dataplane.PartPorts: "published ports (nftables rules)",
		dataplane.PartWireGuard: "encryption (WireGuard interface, address, routes or peers)"}
	for id, net := range networks {
		names["overlay "+string(id)] = "overlay network " + net.Spec.Name + " (bridge, VXLAN device or forwarding entries)"
	}
	for id, sb := range sandboxes.All() {
		names[dataplane.SandboxPrefix+sandbox.Namespace(id)] = "container " + sb.Spec.Name + " (interface, address or balancing rules)"
	}
	var out []string
	for _, part := range parts {
		switch name, ok := names[part]; {
		case ok:
			out = append(out, name)
		case strings.HasPrefix(part, "bridge "):
			out = append(out, part+" (link, address or forwarding)")
		default:
			out = append(out, part)
		}
	}
	return out
}
