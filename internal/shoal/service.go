package shoal

import (
	"net/netip"
	"time"
)

// Service is a wish: run this task template so many times and keep it so. Spec is written by the API, Endpoint by the
// allocator, UpdateStatus and JobStatus by the orchestrator.
type Service struct {
	ID ServiceID
	Meta
	Spec ServiceSpec
	// SpecVersion grows by one whenever the spec changes; tasks carry the one they were made from.
	SpecVersion  uint64
	PreviousSpec *ServiceSpec // what a rollback returns to; nil: never updated
	Endpoint     ServiceEndpoint
	UpdateStatus *UpdateStatus // nil: never updated
	JobStatus    *JobStatus    // nil: not a job
}

// ServiceSpec is what the user asked for, as asked: defaults are filled in where they are read, not here, so that a spec
// comes back from the API as it went in.
type ServiceSpec struct {
	Name     string
	Labels   map[string]string
	Task     TaskSpec
	Mode     ServiceMode
	Update   *UpdateConfig
	Rollback *UpdateConfig
	Endpoint *EndpointSpec
	// Networks is where earlier versions of shoal kept Task.Networks. Nothing writes it any more; services that they stored are
	// still read: see AttachedNetworks.
	Networks []NetworkAttachmentSpec
}

// ServiceMode says how many tasks a service wants. Exactly one field is set.
type ServiceMode struct {
	Replicated    *Replicated
	Global        *Global
	ReplicatedJob *ReplicatedJob
	GlobalJob     *GlobalJob
}

type (
	// Replicated wants a number of tasks. Replicas is nil when the user left it out (then it is 1).
	Replicated struct{ Replicas *uint64 }
	// Global wants a task on every eligible node.
	Global struct{}
	// ReplicatedJob wants a number of tasks to complete, with at most MaxConcurrent at a time.
	ReplicatedJob struct{ MaxConcurrent, TotalCompletions *uint64 }
	// GlobalJob wants a task to complete on every eligible node.
	GlobalJob struct{}
)

// IsGlobal tells whether tasks follow nodes rather than slots.
func (m ServiceMode) IsGlobal() bool { return m.Global != nil || m.GlobalJob != nil }

// IsJob tells whether tasks are meant to complete.
func (m ServiceMode) IsJob() bool { return m.ReplicatedJob != nil || m.GlobalJob != nil }

// Replicas is the number of tasks that a replicated service wants.
func (s *ServiceSpec) Replicas() uint64 {
	if s.Mode.Replicated == nil {
		return 0
	}
	if s.Mode.Replicated.Replicas == nil {
		return 1
	}
	return *s.Mode.Replicated.Replicas
}

// AttachedNetworks is the networks that tasks of the service join: Task.Networks or, in a service that an earlier version has
// stored, Networks.
func (s *ServiceSpec) AttachedNetworks() []NetworkAttachmentSpec {
	if len(s.Task.Networks) > 0 {
		return s.Task.Networks
	}
	return s.Networks
}

// NetworkAttachmentSpec asks for an endpoint on a network.
type NetworkAttachmentSpec struct {
	// Target is the network's ID in every stored spec, but for networks that each node has of its own: "host", "bridge" and "none".
	// In a spec that a client has sent it may be a name too, until the API has resolved it.
	Target     string
	Aliases    []string
	DriverOpts map[string]string
}

// UpdateOrder says whether a replacement starts before or after the task it replaces.
type UpdateOrder string

// Orders of an update; empty means StopFirst.
const (
	StopFirst  UpdateOrder = "stop-first"
	StartFirst UpdateOrder = "start-first"
)

// FailureAction says what an update does when too many of its tasks fail.
type FailureAction string

// Actions after too many failures; empty means PauseOnFailure.
const (
	PauseOnFailure    FailureAction = "pause"
	ContinueOnFailure FailureAction = "continue"
	RollbackOnFailure FailureAction = "rollback"
)

// UpdateConfig is the pace of a rolling update or rollback.
type UpdateConfig struct {
	Parallelism     uint64        // tasks replaced at a time; 0: all at once
	Delay           time.Duration // between replacements
	FailureAction   FailureAction
	Monitor         time.Duration // how long a new task is watched for failure; 0: the default
	MaxFailureRatio float32       // of the tasks, from 0 to 1; above it FailureAction is taken
	Order           UpdateOrder
}

// UpdateState is where a rolling update stands, in Docker's words.
type UpdateState string

// States of an update. A rollback has states of its own, whether a user or a failed update has begun it.
const (
	UpdateUpdating          UpdateState = "updating"
	UpdatePaused            UpdateState = "paused"
	UpdateCompleted         UpdateState = "completed"
	UpdateRollbackStarted   UpdateState = "rollback_started"
	UpdateRollbackPaused    UpdateState = "rollback_paused"
	UpdateRollbackCompleted UpdateState = "rollback_completed"
)

// UpdateStatus tells of the last update of a service.
type UpdateStatus struct {
	State       UpdateState
	StartedAt   *time.Time
	CompletedAt *time.Time
	Message     string
}

// JobStatus tells of the present run of a job.
type JobStatus struct {
	Iteration     uint64
	LastExecution time.Time
}

// ResolutionMode says what a service's name resolves to.
type ResolutionMode string

// Resolution modes: a virtual IP address that is balanced, or the addresses of all ready tasks. Empty means ResolveVIP.
const (
	ResolveVIP   ResolutionMode = "vip"
	ResolveDNSRR ResolutionMode = "dnsrr"
)

// EndpointSpec asks for a resolution mode and published ports.
type EndpointSpec struct {
	Mode  ResolutionMode
	Ports []Port
}

// Protocol is a transport protocol: "tcp", "udp" or "sctp".
type Protocol string

// Protocols that ports can be published for.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// PublishMode says where a published port answers: on every node, or only where a task runs.
type PublishMode string

// Publish modes: every node forwards the port to a task (routing mesh), or only the task's own node does.
const (
	PublishIngress PublishMode = "ingress"
	PublishHost    PublishMode = "host"
)

// Port is one published port. Published is 0 in a spec that leaves the choice to the allocator.
type Port struct {
	Name      string
	Protocol  Protocol
	Target    uint16
	Published uint16
	Mode      PublishMode
}

// ServiceEndpoint is what the allocator gave a service.
type ServiceEndpoint struct {
	// Spec is the EndpointSpec that Ports and VIPs were made from.
	Spec  *EndpointSpec
	Ports []Port
	VIPs  []VIP
}

// VIP is the one address (per family) of a service on a network, with the length of the subnet's prefix (10.0.1.2/24).
type VIP struct {
	NetworkID NetworkID
	Addr      netip.Prefix
	Addr6     netip.Prefix // not valid on a network without IPv6
}

// HasIngressPort tells whether any port of the service is published on the routing mesh.
func (e *EndpointSpec) HasIngressPort() bool {
	if e == nil {
		return false
	}
	for _, p := range e.Ports {
		if p.Mode == PublishIngress {
			return true
		}
	}
	return false
}
