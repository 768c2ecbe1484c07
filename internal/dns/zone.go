package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Entry is a service, task or container on one network: each of its names stands for all of its addresses.
type Entry struct {
	// Names are in any case, without a final dot. The first is what SRV and PTR records call it.
	Names []string
	Addrs []netip.Addr
	// Reverse tells that the addresses are its own, so that they lead back to its first name.
	Reverse bool
	// Stack is what it belongs to; who is of the same stack finds it before others of the same name.
	Stack string
	// Ports are those it has SRV records for.
	Ports []shoal.Port
}

// Zone is the names of one network. Any number of resolvers read it while it changes. A lookup costs the same however many
// names there are, and so does the change of an entry.
type Zone struct {
	mu      sync.RWMutex // guards what follows
	network string
	subnets []netip.Prefix
	entries map[string]*Entry
	names   map[string][]*Entry
	owners  map[netip.Addr][]*Entry // of addresses that lead back
}

// NewZone makes an empty one.
func NewZone() *Zone {
	return &Zone{entries: map[string]*Entry{}, names: map[string][]*Entry{}, owners: map[netip.Addr][]*Entry{}}
}

// Describe tells of the network: NAME.NETWORK is answered here or nowhere, and so are the addresses of its subnets.
func (z *Zone) Describe(network string, subnets []netip.Prefix) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.network, z.subnets = strings.ToLower(network), subnets
}

// Update enters or replaces some entries, by any key, and takes others away.
func (z *Zone) Update(put map[string]Entry, del []string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, key := range del {
		z.deleteLocked(key)
	}
	for key, e := range put {
		z.deleteLocked(key)
		z.putLocked(key, e)
	}
}

func (z *Zone) putLocked(key string, e Entry) {
	given := e.Names
	e.Names = make([]string, 0, len(given))
	for _, name := range given {
		if name = strings.ToLower(name); name != "" && !slices.Contains(e.Names, name) {
			e.Names = append(e.Names, name)
		}
	}
	if len(e.Names) == 0 {
		return
	}
	z.entries[key] = &e
	for _, name := range e.Names {
		z.names[name] = append(z.names[name], &e)
	}
	if e.Reverse {
		for _, a := range e.Addrs {
			z.owners[a] = append(z.owners[a], &e)
		}
	}
}

func (z *Zone) deleteLocked(key string) {
	e := z.entries[key]
	if e == nil {
		return
	}
	delete(z.entries, key)
	for _, name := range e.Names {
		without(z.names, name, e)
	}
	if e.Reverse {
		for _, a := range e.Addrs {
			without(z.owners, a, e)
		}
	}
}

// without takes the entry out of the list, and the list out of the map when it was the last.
func without[K comparable](m map[K][]*Entry, at K, e *Entry) {
	if m[at] = slices.DeleteFunc(m[at], func(other *Entry) bool { return other == e }); len(m[at]) == 0 {
		delete(m, at)
	}
}

// find is the entries of a name, of one stack only unless stack is empty. Entries are not changed once they are in a zone.
func (z *Zone) find(name, stack string) []*Entry {
	z.mu.RLock()
	defer z.mu.RUnlock()
	all := z.names[name]
	if stack == "" {
		return slices.Clone(all)
	}
	var own []*Entry
	for _, e := range all {
		if e.Stack == stack {
			own = append(own, e)
		}
	}
	return own
}

// within is the part of a name before the network's own, if it ends in that.
func (z *Zone) within(name string) (string, bool) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	rest, ok := strings.CutSuffix(name, z.network)
	if !ok || z.network == "" {
		return "", false
	}
	return strings.CutSuffix(rest, ".")
}

// owner is the full name of who has an address, and whether the address is the network's at all.
func (z *Zone) owner(a netip.Addr) (host string, ours bool) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	if all := z.owners[a]; len(all) > 0 {
		return all[0].Names[0] + "." + z.network, true
	}
	return "", slices.ContainsFunc(z.subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Scope is what one sandbox may know. It is not changed once it is in use.
type Scope struct {
	// Zones are of the networks that the container is on, the one attached first first: its names win.
	Zones []*Zone
	// Stack is the one that the container belongs to, if any.
	Stack string
	// Upstreams is asked, in order, for what is in no zone.
	Upstreams []netip.AddrPort
}

// find returns who a name stands for, and whether anyone outside the cluster could know better.
func (s *Scope) find(name string) (found []*Entry, ours bool) {
	if found = s.look(s.Zones, name); len(found) > 0 {
		return found, true
	}
	for i, z := range s.Zones {
		if rest, ok := z.within(name); ok {
			return s.look(s.Zones[i:i+1], rest), true
		}
	}
	first, rest, _ := strings.Cut(name, ".")
	if rest == "" || strings.Contains(rest, ".") {
		return nil, false
	}
	// No service's name has a dot: tasks.NAME and SLOT.NAME are of services here, if NAME is.
	return nil, first == "tasks" || isNumber(first) && len(s.look(s.Zones, rest)) > 0
}

// look prefers the container's own stack on any network to others on the first.
func (s *Scope) look(zones []*Zone, name string) []*Entry {
	if s.Stack != "" {
		for _, z := range zones {
			if own := z.find(name, s.Stack); len(own) > 0 {
				return own
			}
		}
	}
	for _, z := range zones {
		if all := z.find(name, ""); len(all) > 0 {
			return all
		}
	}
	return nil
}

func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// reverse returns the name of who has an address, and whether anyone outside could know better.
func (s *Scope) reverse(a netip.Addr) (host string, ours bool) {
	for _, z := range s.Zones {
		name, here := z.owner(a)
		if name != "" {
			return name, true
		}
		ours = ours || here
	}
	return "", ours
}
