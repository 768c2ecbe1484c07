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
	PreviousSpec *ServiceSpec
	Endpoint     ServiceEndpoint
	UpdateStatus *UpdateStatus
	JobStatus    *JobStatus
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
	// Networks is the old place for what Task.Networks says; it is used when that is empty.
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

// AttachedNetworks is the networks that tasks of the service join, from whichever place the spec names them in.
func (s *ServiceSpec) AttachedNetworks() []NetworkAttachmentSpec {
	if len(s.Task.Networks) > 0 {
		return s.Task.Networks
	}
	return s.Networks
}

// NetworkAttachmentSpec asks for an endpoint on a network. Target is a network ID once the API has resolved it.
type NetworkAttachmentSpec struct {
	Target     NetworkID
	Aliases    []string
	DriverOpts map[string]string
}

// UpdateOrder says whether a replacement starts before or after the task it replaces.
type UpdateOrder string

const (
	StopFirst  UpdateOrder = "stop-first"  // the replacement starts when the old task has stopped
	StartFirst UpdateOrder = "start-first" // the old task stops when the replacement runs
)

// FailureAction says what an update does when too many of its tasks fail.
type FailureAction string

const (
	PauseOnFailure    FailureAction = "pause"    // replaces no more tasks until the user updates the service again
	ContinueOnFailure FailureAction = "continue" // goes on as if nothing had failed
	RollbackOnFailure FailureAction = "rollback" // goes back to PreviousSpec
)

// UpdateConfig is the pace of a rolling update or rollback.
type UpdateConfig struct {
	Parallelism     uint64 // 0: all at once
	Delay           time.Duration
	FailureAction   FailureAction
	Monitor         time.Duration
	MaxFailureRatio float32
	Order           UpdateOrder
}

// UpdateState is where a rolling update stands, in Docker's words.
type UpdateState string

const (
	UpdateUpdating          UpdateState = "updating"           // tasks are being replaced
	UpdatePaused            UpdateState = "paused"             // too many new tasks have failed; waits for the user
	UpdateCompleted         UpdateState = "completed"          // all tasks are of the new spec
	UpdateRollbackStarted   UpdateState = "rollback_started"   // tasks are being replaced by those of the previous spec
	UpdateRollbackPaused    UpdateState = "rollback_paused"    // too many tasks of the rollback have failed; waits for the user
	UpdateRollbackCompleted UpdateState = "rollback_completed" // all tasks are of the previous spec again
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

const (
	ResolveVIP   ResolutionMode = "vip"   // the service's virtual IP address, behind which connections are balanced
	ResolveDNSRR ResolutionMode = "dnsrr" // the addresses of all tasks, in random order
)

// EndpointSpec asks for a resolution mode and published ports.
type EndpointSpec struct {
	Mode  ResolutionMode
	Ports []Port
}

// Protocol is a transport protocol: "tcp", "udp" or "sctp".
type Protocol string

const (
	TCP  Protocol = "tcp"  // RFC 9293
	UDP  Protocol = "udp"  // RFC 768
	SCTP Protocol = "sctp" // RFC 9260
)

// PublishMode says where a published port answers: on every node, or only where a task runs.
type PublishMode string

const (
	PublishIngress PublishMode = "ingress" // on every node, by the routing mesh
	PublishHost    PublishMode = "host"    // on the nodes that run a task, each leading to its own
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
