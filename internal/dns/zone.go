package dns

import (
	"net/netip"
	"sync"
)

// Zone is the names of one network. Any number of resolvers answer from it while it is changed.
type Zone struct {
	mu      sync.RWMutex // guards names, reverse
	names   map[string][]netip.Addr
	reverse map[netip.Addr]string
}

// NewZone makes a zone without names.
func NewZone() *Zone {
	return &Zone{names: map[string][]netip.Addr{}, reverse: map[netip.Addr]string{}}
}

// Update gives names (lower case, without the final dot) these addresses, and addresses these names. One that is given nothing is
// known no more. The zone keeps the lists.
func (z *Zone) Update(names map[string][]netip.Addr, reverse map[netip.Addr]string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for name, addrs := range names {
		if len(addrs) == 0 {
			delete(z.names, name)
		} else {
			z.names[name] = addrs
		}
	}
	for addr, name := range reverse {
		if name == "" {
			delete(z.reverse, addr)
		} else {
			z.reverse[addr] = name
		}
	}
}

func (z *Zone) addrsOf(name string) ([]netip.Addr, bool) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	addrs, ok := z.names[name]
	return addrs, ok
}

func (z *Zone) nameOf(addr netip.Addr) string {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.reverse[addr]
}

// addrsOf is what the first of the zones that knows the name has.
func (r *Records) addrsOf(name string) ([]netip.Addr, bool) {
	for _, z := range r.Zones {
		if addrs, ok := z.addrsOf(name); ok {
			return addrs, true
		}
	}
	return nil, false
}

func (r *Records) nameOf(addr netip.Addr) string {
	for _, z := range r.Zones {
		if name := z.nameOf(addr); name != "" {
			return name
		}
	}
	return ""
}
