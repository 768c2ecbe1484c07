// Package allocator gives out what must be unique in the cluster: subnets and VNIs to networks, virtual addresses and
// published ports to services, addresses to tasks and nodes. It reads all of these and writes Network.VNI, IPAM and Err,
// Service.Endpoint, Task.Networks, Ports and (from New to Pending) Status, and Node.IngressAddr, IngressAddr6 and TunnelAddr. What
// is in use is derived from the view, never remembered.
package allocator

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what an Allocator is made of.
type Config struct{}

// Allocator is the controller whose keys are "network/ID", "service/ID", "task/ID" (attached containers), "node/ID" and waitingKey.
type Allocator struct{}

// New makes an allocator.
func New(Config) *Allocator { return &Allocator{} }

// Name implements reconcile.Controller.
func (a *Allocator) Name() string { return "allocator" }

// waitingKey is everything that waits for an address, port or subnet to become free. It is one key, because there may be many that wait, and many that
// become free at once.
const waitingKey reconcile.Key = "waiting"

func key(k store.Kind, id string) reconcile.Key { return reconcile.Key(string(k) + "/" + id) }

// All implements reconcile.Controller, networks first and the ingress network before the others.
func (a *Allocator) All(v store.View) []reconcile.Key {
	var keys []reconcile.Key
	networks := v.Networks()
	slices.SortFunc(networks, func(x, y *shoal.Network) int {
		if x.Spec.Ingress != y.Spec.Ingress {
			if x.Spec.Ingress {
				return -1
			}
			return 1
		}
		return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.ID, y.ID))
	})
	for _, n := range networks {
		keys = append(keys, key(store.KindNetwork, string(n.ID)))
	}
	for _, n := range v.Nodes() {
		keys = append(keys, key(store.KindNode, string(n.ID)))
	}
	for _, s := range v.Services() {
		keys = append(keys, key(store.KindService, string(s.ID)))
	}
	for _, t := range v.UnassignedTasks() {
		if t.ServiceID == "" {
			keys = append(keys, key(store.KindTask, string(t.ID)))
		}
	}
	return keys
}

// Concerned implements reconcile.Controller.
func (a *Allocator) Concerned(v store.View, c store.Change) []reconcile.Key {
	switch c.Kind {
	case store.KindNetwork:
		if sameAllocation(c) {
			return nil
		}
		return a.All(v)
	case store.KindService:
		if c.New == nil {
			return []reconcile.Key{waitingKey}
		}
		return []reconcile.Key{waitingKey, key(c.Kind, c.ID)}
	case store.KindNode:
		var keys []reconcile.Key
		if c.Old == nil || c.New == nil || lacksAddress(c.New.(*shoal.Node)) {
			keys = append(keys, key(c.Kind, c.ID))
		}
		if ingress := v.IngressNetwork(); ingress != nil && !hasIPv6(ingress.IPAM) {
			keys = append(keys, key(store.KindNetwork, string(ingress.ID))) // the last manager without IPv6 may have been this one
		}
		return keys
	case store.KindTask:
		if c.New == nil || c.New.(*shoal.Task).Status.State.Ended() {
			return []reconcile.Key{waitingKey}
		}
		if t := c.New.(*shoal.Task); t.Status.State == shoal.TaskNew {
			return []reconcile.Key{ownerKey(t)}
		}
	case store.KindCluster:
		if c.Old == nil {
			return a.All(v)
		}
	default:
	}
	return nil
}

func sameAllocation(c store.Change) bool {
	if c.Old == nil || c.New == nil {
		return false
	}
	was, is := c.Old.(*shoal.Network), c.New.(*shoal.Network)
	return was.VNI == is.VNI && reflect.DeepEqual(was.IPAM, is.IPAM) && reflect.DeepEqual(was.Spec, is.Spec)
}

func ownerKey(t *shoal.Task) reconcile.Key {
	if t.ServiceID == "" {
		return key(store.KindTask, string(t.ID))
	}
	return key(store.KindService, string(t.ServiceID))
}

// waitingForResources is the keys of everything that waits for an address, port or subnet to become free.
func (a *Allocator) waitingForResources(v store.View) []reconcile.Key {
	var keys []reconcile.Key
	listed := map[shoal.ServiceID]bool{}
	for _, t := range v.UnassignedTasks() {
		if t.Status.State == shoal.TaskNew && !listed[t.ServiceID] {
			keys = append(keys, ownerKey(t))
			listed[t.ServiceID] = t.ServiceID != ""
		}
	}
	if v.IngressNetwork() == nil {
		return keys
	}
	for _, n := range v.Nodes() {
		if lacksAddress(n) {
			keys = append(keys, key(store.KindNode, string(n.ID)))
		}
	}
	return keys
}

// Reconcile implements reconcile.Controller.
func (a *Allocator) Reconcile(v store.View, k reconcile.Key) (store.Changes, error) {
	if k == waitingKey {
		var all store.Changes
		for _, waiting := range a.waitingForResources(v) {
			changes, err := a.Reconcile(v, waiting)
			if err != nil {
				return all, err
			}
			v = v.With(changes)
			all.Merge(changes)
		}
		return all, nil
	}
	kind, id, _ := strings.Cut(string(k), "/")
	switch store.Kind(kind) {
	case store.KindNetwork:
		return network(v, shoal.NetworkID(id)), nil
	case store.KindNode:
		return node(v, shoal.NodeID(id)), nil
	case store.KindService:
		return service(v, shoal.ServiceID(id)), nil
	case store.KindTask:
		return attachment(v, shoal.TaskID(id)), nil
	default:
		return store.Changes{}, fmt.Errorf("allocate for key %s: unknown kind", k)
	}
}

func lacksAddress(n *shoal.Node) bool { return !n.IngressAddr.IsValid() || !n.TunnelAddr.IsValid() }

// node gives a node its addresses on the ingress network and for encrypted traffic. It keeps none of an ingress network that is gone.
func node(v store.View, id shoal.NodeID) store.Changes {
	a, n, ingress := newAllocation(v), v.Node(id), v.IngressNetwork()
	if n == nil {
		return a.changes
	}
	if ingress == nil {
		ingress = &shoal.Network{}
	}
	next := *n
	next.IngressAddr = a.ingressAddr(ingress, n.IngressAddr, true)
	next.IngressAddr6 = a.ingressAddr(ingress, n.IngressAddr6, false)
	if !next.TunnelAddr.IsValid() {
		next.TunnelAddr = freeTunnelAddr(v)
	}
	if next.IngressAddr != n.IngressAddr || next.IngressAddr6 != n.IngressAddr6 || next.TunnelAddr != n.TunnelAddr {
		a.changes.Put(&next)
	}
	return a.changes
}

// ingressAddr is the address that a node has, or else a new one; not valid if there is none.
func (a *allocation) ingressAddr(ingress *shoal.Network, has netip.Prefix, is4 bool) netip.Prefix {
	if contains(ingress, has) {
		return has
	}
	if len(ingress.IPAM) == 0 {
		return netip.Prefix{}
	}
	given, err := a.allocate(ingress, is4)
	if err != nil {
		return netip.Prefix{} // it takes no part in the mesh until there is room
	}
	return given
}
