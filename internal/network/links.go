package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
)

// linkHostsLocked returns the lines of the sandbox's hosts file for the containers that it is linked to: under the alias, and if that
// is another, under the container's own name and ID.
func (n *Networks) linkHostsLocked(sb *containerSandbox) (string, error) {
	var text strings.Builder
	for _, link := range sb.Spec.Links {
		ref, alias, ok := strings.Cut(strings.TrimPrefix(link, "/"), ":")
		if !ok {
			alias = ref
		}
		other := n.findSandboxLocked(ref)
		if other == nil && sb.active {
			continue // it has ended since
		}
		if other == nil {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot link to a non running container: /%s AS /%s/%s", ref, sb.Spec.Name, alias)) // Docker's wording
		}
		addr := sharedAddress(sb, other)
		if !addr.IsValid() {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot link to /%s, as it does not belong to the default network", other.Spec.Name)) // Docker's wording
		}
		names := []string{alias}
		for _, name := range []string{namespaceOf(other.Spec.ContainerID), other.Spec.Name} {
			if name != alias {
				names = append(names, name)
			}
		}
		text.WriteString(addr.String() + "\t" + strings.Join(names, " ") + "\n")
	}
	return text.String(), nil
}

// findSandboxLocked finds the sandbox of a running container by name, ID or the beginning of one.
func (n *Networks) findSandboxLocked(ref string) *containerSandbox {
	var byPrefix *containerSandbox
	for id, sb := range n.sandboxes {
		if id == ref || sb.Spec.Name == ref {
			return sb
		}
		if strings.HasPrefix(id, ref) {
			byPrefix = sb
		}
	}
	return byPrefix
}

// sharedAddress is the other's address on a network that both are on.
func sharedAddress(sb, other *containerSandbox) netip.Addr {
	for _, theirs := range other.Endpoints {
		for _, e := range sb.Endpoints {
			if e.Info.NetworkID == theirs.Info.NetworkID && !e.onGatewayBridge() {
				return theirs.Info.Addr.Addr()
			}
		}
	}
	return netip.Addr{}
}
