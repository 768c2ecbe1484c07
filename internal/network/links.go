package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
)

// linkedLocked is the lines of the box's hosts file by which it knows the containers that it is linked to: under the alias, and if that
// is another, under the container's own name and ID.
func (n *Networks) linkedLocked(b *box) (string, error) {
	var text strings.Builder
	for _, link := range b.Spec.Links {
		ref, alias, ok := strings.Cut(strings.TrimPrefix(link, "/"), ":")
		if !ok {
			alias = ref
		}
		other := n.namedBoxLocked(ref)
		if other == nil && b.planned {
			continue // it has ended since
		}
		if other == nil {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot link to a non running container: /%s AS /%s/%s", ref, b.Spec.Name, alias)) // Docker's wording
		}
		addr := sharedAddress(b, other)
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

// namedBoxLocked finds the box of a running container by name, ID or the beginning of one.
func (n *Networks) namedBoxLocked(ref string) *box {
	var byPrefix *box
	for id, b := range n.boxes {
		if id == ref || b.Spec.Name == ref {
			return b
		}
		if strings.HasPrefix(id, ref) {
			byPrefix = b
		}
	}
	return byPrefix
}

// sharedAddress is the other's address on a network that both are on.
func sharedAddress(b, other *box) netip.Addr {
	for _, theirs := range other.Endpoints {
		for _, e := range b.Endpoints {
			if e.Info.NetworkID == theirs.Info.NetworkID && !e.hidden() {
				return theirs.Info.Addr.Addr()
			}
		}
	}
	return netip.Addr{}
}
