package sandbox

import (
	"cmp"
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/overlay"
)

// lingerTime is how long the connections of a container that has ended may go on being closed. They keep the kernel's side of its namespace alive, for minutes if
// the peer is silent, and with it an interface that answers for an address which others may have by then.
const lingerTime = 2 * time.Second

// place is an address on a bridge or overlay.
type place struct {
	network string
	addr    netip.Addr
}

func placeOf(e config.Endpoint) place {
	return place{cmp.Or(e.Bridge, e.Overlay), cmp.Or(e.Addr.Addr(), e.Addr6.Addr())}
}

// leftover is the far end of an interface of a sandbox that is gone. Its name is never used again.
type leftover struct {
	overlay string // whose namespace it is in; empty for the node's
	link    string
	since   time.Time
}

// leaveLocked remembers what may be left of a sandbox that is removed.
func (s *Sandboxes) leaveLocked(st *state, now time.Time) {
	for _, e := range st.config.Endpoints {
		if link := st.farEnds[e.Name]; link != "" {
			s.leftovers[placeOf(e)] = leftover{e.Overlay, link, now}
		}
	}
}

// evict removes what is left of an earlier sandbox with the endpoint's address.
func (s *Sandboxes) evict(e config.Endpoint) error {
	s.mu.Lock()
	l, ok := s.leftovers[placeOf(e)]
	delete(s.leftovers, placeOf(e))
	s.mu.Unlock()
	if !ok {
		return nil
	}
	return s.remove(l)
}

// Sweep removes what is left of sandboxes that are gone for lingerTime.
func (s *Sandboxes) Sweep(now time.Time) error {
	var over []leftover
	s.mu.Lock()
	for at, l := range s.leftovers {
		if now.Sub(l.since) >= lingerTime {
			over = append(over, l)
			delete(s.leftovers, at)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, l := range over {
		errs = append(errs, s.remove(l))
	}
	return errors.Join(errs...)
}

// remove deletes the far end, and with it the interface, if it is there still. Mostly both are gone with the namespace.
func (s *Sandboxes) remove(l leftover) error {
	del := func(h *netlink.Handle) error {
		link, err := h.LinkByName(l.link)
		if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
			return nil
		}
		if err != nil {
			return err
		}
		if err := h.LinkDel(link); !errors.Is(err, unix.ENODEV) { // gone meanwhile
			return err
		}
		return nil
	}
	switch {
	case l.overlay == "":
		return del(s.links)
	case s.dir.Exists(overlay.Namespace(l.overlay)):
		return s.dir.Netlink(overlay.Namespace(l.overlay), func(h *netlink.Handle, _ *netns.Namespace) error { return del(h) })
	}
	return nil
}
