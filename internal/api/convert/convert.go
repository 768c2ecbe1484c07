// Package convert translates the values that the engine's and the cluster's resources have in common between moby's types
// and ours: mounts, health checks, drivers, networks. Names say the direction: ToAPI… makes what is sent to clients, FromAPI…
// reads what they have sent. What only one resource has is converted beside that resource.
package convert

import (
	"net/netip"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// List converts the elements of a list in order; nil stays nil.
func List[A, B any](list []A, convert func(A) B) []B {
	if list == nil {
		return nil
	}
	out := make([]B, 0, len(list))
	for _, a := range list {
		out = append(out, convert(a))
	}
	return out
}

// NonNil makes an absent map an empty one: Docker shows labels as {} where there are none.
func NonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// ToAPIDriver converts a driver with its options; nil stays nil.
func ToAPIDriver(d *shoal.Driver) *swarm.Driver {
	if d == nil {
		return nil
	}
	return &swarm.Driver{Name: d.Name, Options: d.Options}
}

// FromAPIDriver converts a driver with its options; nil stays nil.
func FromAPIDriver(d *swarm.Driver) *shoal.Driver {
	if d == nil {
		return nil
	}
	return &shoal.Driver{Name: d.Name, Options: d.Options}
}

// ToAPIHealthcheck converts a health check; nil stays nil.
func ToAPIHealthcheck(h *shoal.Healthcheck) *container.HealthConfig {
	if h == nil {
		return nil
	}
	return &container.HealthConfig{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

// FromAPIHealthcheck converts a health check; nil stays nil.
func FromAPIHealthcheck(h *container.HealthConfig) *shoal.Healthcheck {
	if h == nil {
		return nil
	}
	return &shoal.Healthcheck{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

// ToAPIUlimit converts a limit of setrlimit(2).
func ToAPIUlimit(u shoal.Ulimit) *container.Ulimit {
	return &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}
}

// FromAPIUlimit converts a limit of setrlimit(2), which must not be nil.
func FromAPIUlimit(u *container.Ulimit) shoal.Ulimit {
	return shoal.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}
}

// Prefix reads an address with its prefix length, such as "10.0.0.2/24". What is none becomes the zero Prefix, which JSON
// shows as an empty text.
func Prefix(text string) netip.Prefix {
	p, _ := netip.ParsePrefix(text)
	return p
}

// Addr reads an address. What is none becomes the zero Addr, which JSON shows as an empty text.
func Addr(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}
