package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Entry is a service, task or container on one network: each of its names resolves to all of its addresses.
type Entry struct {
	// Names are in upper or lower case, without a final dot. SRV and PTR records use the first.
	Names []string
	Addrs []netip.Addr
	// Reverse says that the addresses belong to this entry alone, so that PTR queries for them are answered with its first name.
	Reverse bool
	// Stack is the stack it belongs to, empty for none. Containers of the same stack find it before others of the same name.
	Stack string
	// Ports is the ports that it has SRV records for.
	Ports []shoal.Port
}

// Zone is the names of one network. Any number of resolvers may read it while it changes. The cost of a lookup, and of changing an
// entry, does not depend on the number of names.
type Zone struct {
	mu      sync.RWMutex // guards what follows
	network string
	subnets []netip.Prefix
	entries map[string]*Entry
	names   map[string][]*Entry
	owners  map[netip.Addr][]*Entry // entries with Reverse
}

// NewZone makes an empty zone.
func NewZone() *Zone {
	return &Zone{entries: map[string]*Entry{}, names: map[string][]*Entry{}, owners: map[netip.Addr][]*Entry{}}
}

// Describe sets the network's name and subnets. Queries for NAME.NETWORK, and PTR queries for addresses of the subnets, are then
// answered from this zone and never forwarded.
func (z *Zone) Describe(network string, subnets []netip.Prefix) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.network, z.subnets = strings.ToLower(network), subnets
}

// Update deletes entries and then adds or replaces others. Keys are the caller's choice.
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
		removeEntry(z.names, name, e)
	}
	if e.Reverse {
		for _, a := range e.Addrs {
			removeEntry(z.owners, a, e)
		}
	}
}

// removeEntry removes the entry from the list at a key, and the key when the list is empty.
func removeEntry[K comparable](m map[K][]*Entry, at K, e *Entry) {
	if m[at] = slices.DeleteFunc(m[at], func(other *Entry) bool { return other == e }); len(m[at]) == 0 {
		delete(m, at)
	}
}

// find is the entries with a name; if stack is not empty, only those of that stack. Entries in a zone are immutable.
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

// withoutNetwork is NAME of NAME.NETWORK; false if the name does not end in the network's.
func (z *Zone) withoutNetwork(name string) (string, bool) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	rest, ok := strings.CutSuffix(name, z.network)
	if !ok || z.network == "" {
		return "", false
	}
	return strings.CutSuffix(rest, ".")
}

// owner is the full name of the entry that has an address, empty if there is none, and whether the address is within the network.
func (z *Zone) owner(a netip.Addr) (host string, inSubnet bool) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	if all := z.owners[a]; len(all) > 0 {
		return all[0].Names[0] + "." + z.network, true
	}
	return "", slices.ContainsFunc(z.subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Links are further names of what a zone has: by each, the name in the zone. Both are in lower case.
type Links struct {
	Zone  *Zone
	Names map[string]string
}

// Scope is what the queries of one sandbox are answered from. It must not be changed once it is in use.
type Scope struct {
	// Zones is those of the networks that the container is on. When several have a name, the first zone wins.
	Zones []*Zone
	// Links are names that the container alone has for others on its networks.
	Links []Links
	// Stack is the stack that the container belongs to; empty for none.
	Stack string
	// Upstreams is the resolvers to which other queries are forwarded, in order.
	Upstreams []netip.AddrPort
}

// find returns the entries with a name. authoritative is false if the name may exist outside of the cluster, so that the query must be
// forwarded.
func (s *Scope) find(name string) (found []*Entry, authoritative bool) {
	for _, l := range s.Links {
		if target, ok := l.Names[name]; ok {
			if found = l.Zone.find(target, ""); len(found) > 0 {
				return found, true
			}
		}
	}
	if found = s.lookup(s.Zones, name); len(found) > 0 {
		return found, true
	}
	for i, z := range s.Zones {
		if rest, ok := z.withoutNetwork(name); ok {
			return s.lookup(s.Zones[i:i+1], rest), true
		}
	}
	first, rest, _ := strings.Cut(name, ".")
	if rest == "" || strings.Contains(rest, ".") {
		return nil, false
	}
	// Names of services have no dots, so tasks.NAME and, if NAME is a service here, SLOT.NAME are not names of the internet.
	return nil, first == "tasks" || isNumber(first) && len(s.lookup(s.Zones, rest)) > 0
}

// lookup finds a name of the container's own stack on any network before one of other stacks on the first network.
func (s *Scope) lookup(zones []*Zone, name string) []*Entry {
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

// reverse returns the name of the entry that has an address. authoritative is false if the query must be forwarded.
func (s *Scope) reverse(a netip.Addr) (host string, authoritative bool) {
	for _, z := range s.Zones {
		name, here := z.owner(a)
		if name != "" {
			return name, true
		}
		authoritative = authoritative || here
	}
	return "", authoritative
}
