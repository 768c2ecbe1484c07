package shoal

import (
	"maps"
	"reflect"
)

// TableDelta is the difference of a Table from the one sent before it or, if Full is set, from an empty one.
type TableDelta struct {
	Full             bool
	Version          uint64
	NodeID           NodeID
	DataPathPort     uint16
	TunnelSecret     []byte                     `json:",omitempty"`
	Networks         map[NetworkID]Network      `json:",omitempty"`
	Peers            map[NodeID]Peer            `json:",omitempty"`
	Services         map[ServiceID]ServiceEntry `json:",omitempty"`
	Endpoints        map[EndpointKey]Endpoint   `json:",omitempty"`
	RemovedNetworks  []NetworkID                `json:",omitempty"`
	RemovedPeers     []NodeID                   `json:",omitempty"`
	RemovedServices  []ServiceID                `json:",omitempty"`
	RemovedEndpoints []EndpointKey              `json:",omitempty"`
}

// Difference is the delta that turns old into now.
func Difference(old, now Table) TableDelta {
	d := TableDelta{Version: now.Version, NodeID: now.NodeID, DataPathPort: now.DataPathPort, TunnelSecret: now.TunnelSecret}
	d.Networks, d.RemovedNetworks = difference(old.Networks, now.Networks)
	d.Peers, d.RemovedPeers = difference(old.Peers, now.Peers)
	d.Services, d.RemovedServices = difference(old.Services, now.Services)
	d.Endpoints, d.RemovedEndpoints = difference(old.Endpoints, now.Endpoints)
	return d
}

func difference[K comparable, V any](old, now map[K]V) (put map[K]V, removed []K) {
	for key, v := range now {
		if before, ok := old[key]; !ok || !reflect.DeepEqual(before, v) {
			if put == nil {
				put = map[K]V{}
			}
			put[key] = v
		}
	}
	for key := range old {
		if _, ok := now[key]; !ok {
			removed = append(removed, key)
		}
	}
	return put, removed
}

// Empty tells whether the delta changes no network, peer, service or endpoint.
func (d *TableDelta) Empty() bool {
	return !d.Full && len(d.Networks)+len(d.Peers)+len(d.Services)+len(d.Endpoints)+
		len(d.RemovedNetworks)+len(d.RemovedPeers)+len(d.RemovedServices)+len(d.RemovedEndpoints) == 0
}

// ApplyTo changes the table by the delta. Nobody else may use the table or its maps meanwhile.
func (d *TableDelta) ApplyTo(t *Table) {
	if d.Full || t.Endpoints == nil {
		*t = Table{Networks: map[NetworkID]Network{}, Peers: map[NodeID]Peer{}, Services: map[ServiceID]ServiceEntry{}, Endpoints: map[EndpointKey]Endpoint{}}
	}
	t.Version, t.NodeID, t.DataPathPort, t.TunnelSecret = d.Version, d.NodeID, d.DataPathPort, d.TunnelSecret
	change(t.Networks, d.Networks, d.RemovedNetworks)
	change(t.Peers, d.Peers, d.RemovedPeers)
	change(t.Services, d.Services, d.RemovedServices)
	change(t.Endpoints, d.Endpoints, d.RemovedEndpoints)
}

func change[K comparable, V any](m, put map[K]V, removed []K) {
	for _, key := range removed {
		delete(m, key)
	}
	maps.Copy(m, put)
}

// Then joins two deltas into one that has the effect of d followed by next. It may change and return either; use neither again.
func (d *TableDelta) Then(next *TableDelta) *TableDelta {
	if next.Full {
		return next
	}
	d.Version, d.NodeID, d.DataPathPort, d.TunnelSecret = next.Version, next.NodeID, next.DataPathPort, next.TunnelSecret
	d.Networks, d.RemovedNetworks = joined(d.Networks, d.RemovedNetworks, next.Networks, next.RemovedNetworks)
	d.Peers, d.RemovedPeers = joined(d.Peers, d.RemovedPeers, next.Peers, next.RemovedPeers)
	d.Services, d.RemovedServices = joined(d.Services, d.RemovedServices, next.Services, next.RemovedServices)
	d.Endpoints, d.RemovedEndpoints = joined(d.Endpoints, d.RemovedEndpoints, next.Endpoints, next.RemovedEndpoints)
	return d
}

// joined joins two changes of a map, the later ones last. A key that was removed and put again is in both results; ApplyTo
// removes first.
func joined[K comparable, V any](put map[K]V, removed []K, laterPut map[K]V, laterRemoved []K) (map[K]V, []K) {
	for _, key := range laterRemoved {
		delete(put, key)
	}
	if put == nil {
		put = map[K]V{}
	}
	maps.Copy(put, laterPut)
	return put, append(removed, laterRemoved...)
}

// Clone is a copy with maps of its own.
func (t *Table) Clone() Table {
	out := *t
	out.Networks, out.Peers = maps.Clone(t.Networks), maps.Clone(t.Peers)
	out.Services, out.Endpoints = maps.Clone(t.Services), maps.Clone(t.Endpoints)
	return out
}
