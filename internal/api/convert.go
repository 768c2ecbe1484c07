package api

import (
	"net/netip"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func metaTo(m shoal.Meta) swarm.Meta {
	return swarm.Meta{Version: swarm.Version{Index: m.Version}, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt}
}

// orEmpty makes an absent map an empty one, as Docker shows labels.
func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func driverTo(d *shoal.Driver) *swarm.Driver {
	if d == nil {
		return nil
	}
	return &swarm.Driver{Name: d.Name, Options: d.Options}
}

func driverFrom(d *swarm.Driver) *shoal.Driver {
	if d == nil {
		return nil
	}
	return &shoal.Driver{Name: d.Name, Options: d.Options}
}

// each converts a list; nothing stays nothing.
func each[A, B any](list []A, convert func(A) B) []B {
	if list == nil {
		return nil
	}
	out := make([]B, 0, len(list))
	for _, a := range list {
		out = append(out, convert(a))
	}
	return out
}

// prefixOf reads "10.0.0.2/24"; what is no prefix is left out of JSON.
func prefixOf(text string) netip.Prefix {
	p, _ := netip.ParsePrefix(text)
	return p
}

func addrOf(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}
