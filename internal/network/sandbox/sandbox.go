// Package sandbox is what a node knows of its containers' sandboxes: what each was asked for and what it got. It reads and writes a record of each
// below the exec root, which outlives the daemon but not the machine's restart: with them a restarted daemon derives the config that the
// kernel already has.
package sandbox

import (
	"sync"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Sandbox is a container's sandbox. Spec, Endpoints and Ports are its record: to rename one breaks running containers. They are changed while
// both the sandbox and the Set are locked, so that either lock is enough to read them.
type Sandbox struct {
	Spec      shoal.SandboxSpec
	Endpoints Endpoints
	Ports     []shoal.PortBinding // as bound

	// Resolver answers the container's DNS questions; nil if it has none. It is guarded as the Set is.
	Resolver *dns.Resolver `json:"-"`
	// Active tells that the data plane's config includes the sandbox. It is guarded as the Set is.
	Active bool `json:"-"`

	op      sync.Mutex // held for the length of an operation; guards deleted
	deleted bool
}

// Lock begins an operation on the sandbox. It returns false, and nothing is locked, if the sandbox was deleted meanwhile.
func (sb *Sandbox) Lock() bool {
	sb.op.Lock()
	if sb.deleted {
		sb.op.Unlock()
		return false
	}
	return true
}

// Unlock ends the operation.
func (sb *Sandbox) Unlock() { sb.op.Unlock() }

// MarkDeleted makes further calls of Lock return false. The sandbox must be locked.
func (sb *Sandbox) MarkDeleted() { sb.deleted = true }

// Namespace is the name of a container's network namespace: the beginning of its ID.
func Namespace(containerID string) string {
	if len(containerID) > 12 {
		return containerID[:12]
	}
	return containerID
}

// Namespace is the name of the sandbox's network namespace.
func (sb *Sandbox) Namespace() string { return Namespace(sb.Spec.ContainerID) }

// RequestedEndpoints is the endpoints that a new sandbox gets: those that the spec names, or else one on the default bridge.
func RequestedEndpoints(spec shoal.SandboxSpec) []shoal.EndpointRequest {
	switch {
	case spec.Mode == "none":
		return nil
	case spec.Mode != shoal.DefaultBridgeName || len(spec.Endpoints) > 0 || spec.IngressAddr.IsValid():
		return spec.Endpoints
	default:
		return []shoal.EndpointRequest{{Network: shoal.DefaultBridgeName}}
	}
}
