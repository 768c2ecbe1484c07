// Package names keeps the DNS records of the node's networks. It reads services and endpoints of the cluster's table and this node's sandboxes, and
// writes the zones that the embedded resolvers answer from.
package names

import (
	"maps"
	"reflect"
	"slices"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Records is the DNS records of each network. Services, endpoints and sandboxes are the sources of records and can each change by themselves.
// What has changed reaches the zones by Updates. Records are guarded by their owner.
type Records struct {
	ipv6     bool
	bySource map[string]map[string]dns.Entry // by the source's key, then network ID
	zones    map[string]*zone                // by network ID
}

// zone is one network's zone, and the changes that are not yet in it.
type zone struct {
	*dns.Zone
	entries       int
	pendingPut    map[string]dns.Entry
	pendingDelete map[string]bool
}

// New returns records without entries. ipv6 tells whether the kernel has IPv6; without it, IPv6 addresses in tables are ignored.
func New(ipv6 bool) *Records {
	return &Records{ipv6: ipv6, bySource: map[string]map[string]dns.Entry{}, zones: map[string]*zone{}}
}

// SetService enters what a service is called.
func (r *Records) SetService(id shoal.ServiceID, s shoal.ServiceEntry) {
	r.set("service "+string(id), serviceRecords(s, r.ipv6))
}

// RemoveService removes what was entered for the service.
func (r *Records) RemoveService(id shoal.ServiceID) { r.set("service "+string(id), nil) }

// SetEndpoint enters what a task or an attached container is called. s is the zero value for what belongs to no service.
func (r *Records) SetEndpoint(key shoal.EndpointKey, e shoal.Endpoint, s shoal.ServiceEntry) {
	r.set("endpoint "+string(key), endpointRecords(e, s, r.ipv6))
}

// RemoveEndpoint removes what was entered for the endpoint.
func (r *Records) RemoveEndpoint(key shoal.EndpointKey) { r.set("endpoint "+string(key), nil) }

// SetSandbox enters what a container of this node is called, before any table tells of it.
func (r *Records) SetSandbox(sb *sandbox.Sandbox) {
	r.set("sandbox "+sb.Spec.ContainerID, sandboxRecords(sb))
}

// RemoveSandbox removes what was entered for the container.
func (r *Records) RemoveSandbox(containerID string) { r.set("sandbox "+containerID, nil) }

// All is every record, by the key of its source and by network. The maps are the Records' own.
func (r *Records) All() map[string]map[string]dns.Entry { return r.bySource }

func (r *Records) zone(network string) *zone {
	z := r.zones[network]
	if z == nil {
		z = &zone{Zone: dns.NewZone(), pendingPut: map[string]dns.Entry{}, pendingDelete: map[string]bool{}}
		r.zones[network] = z
	}
	return z
}

// set replaces the records of the source with the key; nil removes them.
func (r *Records) set(key string, now map[string]dns.Entry) {
	was := r.bySource[key]
	for network := range was {
		if _, ok := now[network]; !ok {
			z := r.zone(network)
			z.entries--
			delete(z.pendingPut, key)
			z.pendingDelete[key] = true
		}
	}
	for network, e := range now {
		old, had := was[network]
		if had && reflect.DeepEqual(old, e) {
			continue
		}
		z := r.zone(network)
		if !had {
			z.entries++
		}
		delete(z.pendingDelete, key)
		z.pendingPut[key] = e
	}
	if len(now) == 0 {
		delete(r.bySource, key)
	} else {
		r.bySource[key] = now
	}
}

// Update is a change that is not yet in its zone. It is a value of its own: Apply needs none of the locks that guard the Records.
type Update struct {
	zone *dns.Zone
	put  map[string]dns.Entry
	del  map[string]bool
}

// Apply enters the change.
func (u Update) Apply() { u.zone.Update(u.put, slices.Collect(maps.Keys(u.del))) }

// Updates returns the changes since the last call. The caller applies them before those of the next call.
func (r *Records) Updates() []Update {
	var out []Update
	for id, z := range r.zones {
		if len(z.pendingPut)+len(z.pendingDelete) == 0 {
			continue
		}
		out = append(out, Update{z.Zone, z.pendingPut, z.pendingDelete})
		z.pendingPut, z.pendingDelete = map[string]dns.Entry{}, map[string]bool{}
		if z.entries == 0 {
			delete(r.zones, id)
		}
	}
	return out
}
