package shoal

import (
	"maps"
	"reflect"
)

// TableDelta is the difference between two versions of a node's Table. The maps hold the entries that are new or have changed, the lists
// the keys of those that are gone. Where a key is in both, it was removed and added again.
type TableDelta struct {
	Full             bool // the delta replaces the whole table, whatever that was
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

// Empty tells that the delta changes no entry. It may still have a new Version, DataPathPort or TunnelSecret, which every delta carries.
func (d *TableDelta) Empty() bool {
	return !d.Full && len(d.Networks)+len(d.Peers)+len(d.Services)+len(d.Endpoints)+
		len(d.RemovedNetworks)+len(d.RemovedPeers)+len(d.RemovedServices)+len(d.RemovedEndpoints) == 0
}

// ApplyTo changes the table as the delta says. Nobody else may use the table meanwhile: see Table.Clone.
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

// Then is one delta that does what d and then next would do. Neither may be used afterwards.
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

// Clone is a copy whose maps can be changed without changing those of t.
func (t *Table) Clone() Table {
	out := *t
	out.Networks, out.Peers = maps.Clone(t.Networks), maps.Clone(t.Peers)
	out.Services, out.Endpoints = maps.Clone(t.Services), maps.Clone(t.Endpoints)
	return out
}
