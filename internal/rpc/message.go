package rpc

import (
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

type (
	// RootCARequest asks for the cluster's root certificate, and RootCAReply has it.
	RootCARequest struct{}
	// RootCAReply answers RootCARequest.
	RootCAReply struct{ Cert []byte }

	// JoinRequest asks for a certificate with a join token. The node says where it wants to be reached.
	JoinRequest struct {
		Token        string
		CSR          []byte
		Availability shoal.Availability
		// AdvertiseAddr and DataAddr are where the node wants to be reached; those that are not valid are taken from the connection.
		AdvertiseAddr netip.Addr
		DataAddr      netip.Addr
		Hostname      string
	}
	// RenewRequest asks for another certificate on the strength of the one shown.
	RenewRequest struct{ CSR []byte }
	// CertificateReply admits a node.
	CertificateReply struct {
		NodeID    shoal.NodeID
		ClusterID shoal.ClusterID
		Role      shoal.NodeRole
		Cert      []byte
		Root      []byte
		Managers  []string // "host:2377"
		// Addr is the address that the manager knows the node by.
		Addr netip.Addr
	}

	// MemberRequest asks to take part in the store.
	MemberRequest struct {
		Addr    string // where the node protocol will be served
		PeerURL string
	}
	// MemberReply says whom to start with.
	MemberReply struct {
		// PeerURLs is those of all members, the new one included, by node.
		PeerURLs map[shoal.NodeID]string
		// Key seals secrets in the store.
		Key []byte
	}

	// LeaveRequest says that the calling node leaves.
	LeaveRequest struct{}
	// LeaveReply answers LeaveRequest.
	LeaveReply struct{}

	// AttachRequest asks for an address on an attachable network for a container of the calling node.
	AttachRequest struct {
		Network     string
		ContainerID string
		Name        string
		Address     netip.Addr // not valid: any
		Aliases     []string
	}
	// AttachReply grants it.
	AttachReply struct {
		TaskID  shoal.TaskID
		Network shoal.TaskNetwork
		Name    string
	}
	// DetachRequest takes an attachment back.
	DetachRequest struct{ TaskID shoal.TaskID }
	// DetachReply answers DetachRequest.
	DetachReply struct{}
)

// AgentMessage is what an agent says on its session. The first one has Hello set; one with nothing set is a heartbeat.
type AgentMessage struct {
	Hello    *Hello         `json:",omitempty"`
	Statuses []StatusReport `json:",omitempty"`
	// Applied is the table version that the node's kernel now has.
	Applied uint64 `json:",omitempty"`
}

// Hello opens a session.
type Hello struct {
	Description shoal.NodeDescription
	// DataAddr is where the node's VXLAN packets go; not valid for the address it calls from.
	DataAddr netip.Addr
	// ProbePort is where the node answers liveness probes.
	ProbePort uint16
}

// StatusReport is a task's status as its agent sees it.
type StatusReport struct {
	TaskID shoal.TaskID
	Status shoal.TaskStatus
}

// ManagerMessage is what a manager says on a session. Fields that are nil say nothing.
type ManagerMessage struct {
	// Redirect is the only message of a manager that does not lead.
	Redirect *Redirect `json:",omitempty"`
	Welcome  *Welcome  `json:",omitempty"`
	Tasks    *Tasks    `json:",omitempty"`
	// Table is the node's endpoint table, or what changed of it since the last one sent on this session.
	Table *shoal.TableDelta `json:",omitempty"`
	// Drained lists tasks of this node that no node's balancers use any more: they may be stopped.
	Drained []shoal.TaskID `json:",omitempty"`
	Logs    *LogRequest    `json:",omitempty"`
	// StopLogs ends a subscription.
	StopLogs string `json:",omitempty"`
	// Open asks for a tunnel to the node's API, under this name.
	Open string `json:",omitempty"`
}

// Redirect sends an agent to the leader.
type Redirect struct {
	// Leader is where it is; empty while there is none.
	Leader string
}

// Welcome answers Hello and is repeated when what it says changes.
type Welcome struct {
	// Heartbeat is the longest silence that either side bears from the other.
	Heartbeat time.Duration
	// Managers is where they all are, the leader first.
	Managers []string
	// Role is what the node is meant to be.
	Role shoal.NodeRole
	// Trust is what it is to trust, and Issuer the public key that its certificate is to be signed with.
	Trust  []byte
	Issuer []byte
}

// Tasks is the node's assignments, or what changed of them.
type Tasks struct {
	// Full means that tasks not listed are no longer assigned.
	Full    bool
	Put     []shoal.Task   `json:",omitempty"`
	Removed []shoal.TaskID `json:",omitempty"`
	Secrets []shoal.Secret `json:",omitempty"`
	Configs []shoal.Config `json:",omitempty"`
}

// LogRequest asks an agent for the logs of its tasks.
type LogRequest struct {
	ID    string
	Query shoal.LogQuery
}

// LogMessage is one line, or (the first message of a stream) just the subscription it belongs to.
type LogMessage struct {
	Subscription string
	Line         *shoal.LogLine `json:",omitempty"`
}

// LogReply ends a log stream.
type LogReply struct{}
