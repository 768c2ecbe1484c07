package sandbox

import (
	"maps"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
)

// Drifted compares the kernel with what was applied. It forgets the sandboxes that others have changed, so that the next Apply makes them
// whole, and returns their names. A sandbox with an endpoint on one of the given bridges and overlays, which have drifted themselves, counts as changed: the
// endpoint's far end may be on no bridge any more. Apply, Prune and Forget must not be called meanwhile.
func (s *Sandboxes) Drifted(bridges, overlays []string) []string {
	s.mu.Lock()
	applied := maps.Clone(s.applied)
	s.mu.Unlock() // looking at the kernel takes a while, and namespaces may be made meanwhile
	var drifted []string
	for name, st := range applied {
		detached := slices.ContainsFunc(st.config.Endpoints, func(e config.Endpoint) bool {
			return slices.Contains(bridges, e.Bridge) || slices.Contains(overlays, e.Overlay)
		})
		if detached || !s.intact(name, st) {
			drifted = append(drifted, name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range drifted {
		delete(s.applied, name)
	}
	return drifted
}

func (s *Sandboxes) intact(name string, st *state) bool {
	intact := false
	err := s.dir.Netlink(name, func(h *netlink.Handle, ns *netns.Namespace) error {
		now, err := nft.Generation(ns)
		if err != nil || now != st.table.Generation {
			return err
		}
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, e := range st.config.Endpoints {
			i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == e.Name })
			if i < 0 || !connected(links[i], e) || !rtnl.HasAddresses(h, links[i], e.Addrs()...) {
				return nil
			}
		}
		intact = true
		return nil
	})
	return err == nil && intact
}

// connected tells whether the interface is up and, if it leads somewhere, its far end too.
func connected(l netlink.Link, e config.Endpoint) bool {
	const lowerUp = 1 << 16 // IFF_LOWER_UP
	return rtnl.IsUp(l) && (e.Bridge == "" && e.Overlay == "" || l.Attrs().RawFlags&lowerUp != 0)
}
