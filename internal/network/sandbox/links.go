package sandbox

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// LinkHosts is the lines of the sandbox's hosts file for the containers that it is linked to: under the alias, and if that is another, under the
// container's own name and ID. Errors have Docker's words.
func (s *Set) LinkHosts(sb *Sandbox) (string, error) {
	var text strings.Builder
	for _, link := range sb.Spec.Links {
		ref, alias, ok := strings.Cut(strings.TrimPrefix(link, "/"), ":")
		if !ok {
			alias = ref
		}
		other := s.Find(ref)
		if other == nil && sb.Active {
			continue // it has ended since
		}
		if other == nil {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot link to a non running container: /%s AS /%s/%s", ref, sb.Spec.Name, alias))
		}
		addr := sharedAddress(sb, other)
		if !addr.IsValid() {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot link to /%s, as it does not belong to the default network", other.Spec.Name))
		}
		names := []string{alias}
		for _, name := range []string{other.Namespace(), other.Spec.Name} {
			if name != alias {
				names = append(names, name)
			}
		}
		text.WriteString(addr.String() + "\t" + strings.Join(names, " ") + "\n")
	}
	return text.String(), nil
}

// LinkedTo tells whether the sandbox has a link to another on the default bridge.
func (sb *Sandbox) LinkedTo(s *Set, other *Sandbox) bool {
	return slices.ContainsFunc(sb.Spec.Links, func(link string) bool {
		ref, _, _ := strings.Cut(strings.TrimPrefix(link, "/"), ":")
		return s.Find(ref) == other
	})
}

// sharedAddress is the other's address on a network that both are on.
func sharedAddress(sb, other *Sandbox) netip.Addr {
	for _, theirs := range other.Endpoints {
		for _, e := range sb.Endpoints {
			if e.Info.NetworkID == theirs.Info.NetworkID && !e.OnGatewayBridge() {
				return theirs.Info.Addr.Addr()
			}
		}
	}
	return netip.Addr{}
}
