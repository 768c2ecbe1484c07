package sandbox

import (
	"iter"
	"maps"
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Set is the sandboxes of a node. It is guarded by its owner.
type Set struct {
	byID map[string]*Sandbox // by container ID
}

// NewSet makes an empty one.
func NewSet() *Set { return &Set{byID: map[string]*Sandbox{}} }

// Get is the container's sandbox, nil if it has none.
func (s *Set) Get(containerID string) *Sandbox { return s.byID[containerID] }

// GetOrCreate is the container's sandbox, a new one if it has none.
func (s *Set) GetOrCreate(containerID string) *Sandbox {
	sb := s.byID[containerID]
	if sb == nil {
		sb = &Sandbox{Spec: shoal.SandboxSpec{ContainerID: containerID}}
		s.byID[containerID] = sb
	}
	return sb
}

// Add adds a sandbox that was read from disk.
func (s *Set) Add(sb *Sandbox) { s.byID[sb.Spec.ContainerID] = sb }

// Delete takes the container's sandbox out.
func (s *Set) Delete(containerID string) { delete(s.byID, containerID) }

// All is the sandboxes by container ID, in no order.
func (s *Set) All() iter.Seq2[string, *Sandbox] { return maps.All(s.byID) }

// Find finds a sandbox by its container's name, ID or the beginning of one; nil if there is none.
func (s *Set) Find(ref string) *Sandbox {
	var byPrefix *Sandbox
	for id, sb := range s.byID {
		if id == ref || sb.Spec.Name == ref {
			return sb
		}
		if strings.HasPrefix(id, ref) {
			byPrefix = sb
		}
	}
	return byPrefix
}

// On is an endpoint of each container that has one on the network, by container ID.
func (s *Set) On(network shoal.NetworkID) map[string]*Endpoint {
	out := map[string]*Endpoint{}
	for id, sb := range s.byID {
		for _, e := range sb.Endpoints {
			if e.Info.NetworkID == network {
				out[id] = e
			}
		}
	}
	return out
}

// MeshTasks is where this node's tasks on the routing mesh are reached, by their ingress addresses.
func (s *Set) MeshTasks() map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	for _, sb := range s.byID {
		if exit, _ := sb.Endpoints.DefaultRoutes(); sb.Active && sb.Spec.IngressAddr.IsValid() && exit != nil && exit.OnGatewayBridge() {
			out[sb.Spec.IngressAddr.Addr()] = exit.Info.Addr.Addr()
			if sb.Spec.IngressAddr6.IsValid() && exit.Info.Addr6.IsValid() {
				out[sb.Spec.IngressAddr6.Addr()] = exit.Info.Addr6.Addr()
			}
		}
	}
	return out
}
