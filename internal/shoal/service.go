package shoal

import (
	"net/netip"
	"time"
)

// Service is a user's order to run a number of equal tasks, and to replace those that end. Spec is written by the API, Endpoint by the
// allocator, UpdateStatus and JobStatus by the orchestrator.
type Service struct {
	ID ServiceID
	Meta
	Spec ServiceSpec
	// SpecVersion grows by one whenever the spec changes. A task has the SpecVersion that it was made from.
	SpecVersion uint64
	// SpecOver is the Version of the service that the last change of Spec replaced. A client that has read a later version has seen the
	// newest spec, whatever else has changed of the service since.
	SpecOver     uint64
	PreviousSpec *ServiceSpec // what a rollback goes back to; nil if the service was never updated
	Endpoint     ServiceEndpoint
	UpdateStatus *UpdateStatus // of the last update or rollback; nil if there was none since the spec was last changed
	JobStatus    *JobStatus    // nil for services that are no jobs
}

// ServiceSpec is what the user asked for. Fields that the user left out stay nil or empty, and whoever reads them applies the default, so
// that the API shows a spec as the user sent it.
type ServiceSpec struct {
	Name     string
	Labels   map[string]string
	Task     TaskSpec
	Mode     ServiceMode
	Update   *UpdateConfig
	Rollback *UpdateConfig
	Endpoint *EndpointSpec
	// Networks is where services of earlier versions may have their networks instead of in Task.Networks. Nothing writes it any more; read
	// AttachedNetworks.
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
	// Replicated wants a number of tasks. A nil Replicas means 1.
	Replicated struct{ Replicas *uint64 }
	// Global wants a task on every eligible node.
	Global struct{}
	// ReplicatedJob wants TotalCompletions tasks to complete, and runs at most MaxConcurrent at a time: 1 if that is nil, all if it
	// is 0. A nil TotalCompletions means as many as MaxConcurrent.
	ReplicatedJob struct{ MaxConcurrent, TotalCompletions *uint64 }
	// GlobalJob wants a task to complete on every eligible node.
	GlobalJob struct{}
)

// IsGlobal tells whether the service has one task on each node, instead of a number of slots.
func (m ServiceMode) IsGlobal() bool { return m.Global != nil || m.GlobalJob != nil }

// IsJob tells whether tasks run once, until they complete, instead of being replaced when they end.
func (m ServiceMode) IsJob() bool { return m.ReplicatedJob != nil || m.GlobalJob != nil }

// Replicas is the number of tasks that a replicated service wants; 0 for services of other modes.
func (s *ServiceSpec) Replicas() uint64 {
	if s.Mode.Replicated == nil {
		return 0
	}
	if s.Mode.Replicated.Replicas == nil {
		return 1
	}
	return *s.Mode.Replicated.Replicas
}

// AttachedNetworks is the networks that tasks of the service join, whichever field of the spec names them.
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

// IsNodeNetwork tells of the name of a network that every node has of its own.
func IsNodeNetwork(name string) bool {
	return name == DriverHost || name == DriverBridge || name == "none"
}

// UpdateOrder says whether a replacement starts before or after the task it replaces.
type UpdateOrder string

// Orders of an update; empty means StopFirst.
const (
	StopFirst  UpdateOrder = "stop-first"  // the replacement starts when the old task has stopped
	StartFirst UpdateOrder = "start-first" // the old task stops when the replacement runs
)

// FailureAction says what an update does when too many of its tasks fail.
type FailureAction string

// Actions after too many failures; empty means PauseOnFailure.
const (
	PauseOnFailure    FailureAction = "pause"    // replaces no more tasks until the user updates the service again
	ContinueOnFailure FailureAction = "continue" // goes on as if nothing had failed
	RollbackOnFailure FailureAction = "rollback" // goes back to PreviousSpec
)

// UpdateConfig says how fast a rolling update or rollback goes, and what it does about tasks that fail.
type UpdateConfig struct {
	Parallelism     uint64        // tasks replaced at a time; 0 means all at once
	Delay           time.Duration // from a task's start until the next is replaced
	FailureAction   FailureAction
	Monitor         time.Duration // how long after its start a failure of a task counts; 0 is the default, 5 s
	MaxFailureRatio float32       // 0 to 1: the part of the tasks that may fail without FailureAction
	Order           UpdateOrder
}

// UpdateState is the state of a rolling update or rollback, under the names of Docker's API.
type UpdateState string

// States of an update. A rollback has states of its own, whether a user or a failed update has begun it.
const (
	UpdateUpdating          UpdateState = "updating"           // tasks are being replaced
	UpdatePaused            UpdateState = "paused"             // too many new tasks have failed; waits for the user
	UpdateCompleted         UpdateState = "completed"          // all tasks are of the new spec
	UpdateRollbackStarted   UpdateState = "rollback_started"   // tasks are being replaced by those of the previous spec
	UpdateRollbackPaused    UpdateState = "rollback_paused"    // too many tasks of the rollback have failed; waits for the user
	UpdateRollbackCompleted UpdateState = "rollback_completed" // all tasks are of the previous spec again
)

// UpdateStatus is the progress of the last update or rollback of a service.
type UpdateStatus struct {
	State       UpdateState
	StartedAt   *time.Time
	CompletedAt *time.Time // nil until it has completed
	Message     string
}

// JobStatus is the present run of a job.
type JobStatus struct {
	Iteration     uint64    // the SpecVersion that began the run
	LastExecution time.Time // when the run began
}

// ResolutionMode says what a service's name resolves to.
type ResolutionMode string

// Resolution modes: a virtual IP address that is balanced, or the addresses of all ready tasks. Empty means ResolveVIP.
const (
	ResolveVIP   ResolutionMode = "vip"   // the service's virtual IP address, behind which connections are balanced
	ResolveDNSRR ResolutionMode = "dnsrr" // the addresses of all ready tasks, in random order
)

// EndpointSpec is the part of a service's spec that says how clients reach it.
type EndpointSpec struct {
	Mode  ResolutionMode
	Ports []Port
}

// Protocol is a transport protocol: "tcp", "udp" or "sctp".
type Protocol string

// Protocols that ports can be published for.
const (
	TCP  Protocol = "tcp"  // RFC 9293
	UDP  Protocol = "udp"  // RFC 768
	SCTP Protocol = "sctp" // RFC 9260
)

// Number is the protocol's number in IP packets (IPPROTO_*).
func (p Protocol) Number() byte {
	switch p {
	case UDP:
		return 17
	case SCTP:
		return 132
	default:
		return 6
	}
}

// PublishMode says where a published port answers: on every node, or only where a task runs.
type PublishMode string

// Publish modes: every node forwards the port to a task (routing mesh), or only the task's own node does.
const (
	PublishIngress PublishMode = "ingress" // on every node, by the routing mesh
	PublishHost    PublishMode = "host"    // on the nodes that run a task, each leading to its own
)

// Port is one published port of a service.
type Port struct {
	Name      string
	Protocol  Protocol
	Target    uint16 // the port in the tasks' containers
	Published uint16 // the port of nodes; 0 in a spec leaves the choice to the allocator or, in host mode, to the node
	Mode      PublishMode
}

// ServiceEndpoint is what the allocator has given a service.
type ServiceEndpoint struct {
	// Spec is the EndpointSpec for which Ports and VIPs were allocated. When it differs from that of the service, they are out of date.
	Spec  *EndpointSpec
	Ports []Port // all published ports, each with its number, except for host-mode ports that nodes choose
	VIPs  []VIP
}

// VIP is the virtual address of a service on a network, one for each address family, with the prefix length of the subnet (10.0.1.2/24).
type VIP struct {
	NetworkID NetworkID
	Addr      netip.Prefix
	Addr6     netip.Prefix // not valid on a network without IPv6
}

// HasIngressPort tells whether any of the ports is published on the routing mesh. A nil spec has no ports.
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
