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

	// JoinRequest asks for a certificate on the strength of a join token.
	JoinRequest struct {
		Token        string
		CSR          []byte // PEM
		Availability shoal.Availability
		// AdvertiseAddr and DataAddr are where the node wants to be reached; those that are not valid are taken from the connection.
		AdvertiseAddr netip.Addr
		DataAddr      netip.Addr
		Hostname      string
	}
	// RenewRequest asks for a new certificate on the strength of the one that the connection was made with. CSR is PEM.
	RenewRequest struct{ CSR []byte }
	// CertificateReply has a node's certificate and what it needs to know of the cluster.
	CertificateReply struct {
		NodeID    shoal.NodeID
		ClusterID shoal.ClusterID
		Role      shoal.NodeRole
		Cert      []byte   // PEM
		Root      []byte   // PEM
		Managers  []string // "host:2377"
		// Addr is the node's address as the manager sees it.
		Addr netip.Addr
	}

	// MemberRequest asks to become a member of the replicated store.
	MemberRequest struct {
		Addr    string // where the node protocol will be served
		PeerURL string
	}
	// MemberReply has what a new member of the store starts with.
	MemberReply struct {
		// PeerURLs is the URLs of all members, the new one included, by node.
		PeerURLs map[shoal.NodeID]string
		// Key is the key with which secrets in the store are sealed.
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
		Address     netip.Addr // wanted; not valid: any
		Aliases     []string
	}
	// AttachReply has the address. TaskID names the attachment for DetachRequest.
	AttachReply struct {
		TaskID  shoal.TaskID
		Network shoal.TaskNetwork
		Name    string
	}
	// DetachRequest ends an attachment.
	DetachRequest struct{ TaskID shoal.TaskID }
	// DetachReply answers DetachRequest.
	DetachReply struct{}
)

// AgentMessage is a message of an agent on its session. The first has Hello set; one with nothing set is a heartbeat.
type AgentMessage struct {
	Hello    *Hello         `json:",omitempty"`
	Statuses []StatusReport `json:",omitempty"`
	// Applied is the version of the last table that the node has applied to its kernel; 0 if there is nothing new.
	Applied uint64 `json:",omitempty"`
}

// Hello opens a session: it describes the node.
type Hello struct {
	Description shoal.NodeDescription
	// DataAddr is where VXLAN packets for the node are sent; not valid: the address that it calls from.
	DataAddr netip.Addr
	// ProbePort is the UDP port at which the node answers liveness probes.
	ProbePort uint16
}

// StatusReport is a task's status as its agent sees it.
type StatusReport struct {
	TaskID shoal.TaskID
	Status shoal.TaskStatus
}

// ManagerMessage is a message of a manager on a session. Empty fields mean that nothing has changed.
type ManagerMessage struct {
	// Redirect is set in the only message that a manager which does not lead sends.
	Redirect *Redirect `json:",omitempty"`
	Welcome  *Welcome  `json:",omitempty"`
	Tasks    *Tasks    `json:",omitempty"`
	// Table is the node's endpoint table, or what changed of it since the last one sent on this session.
	Table *shoal.TableDelta `json:",omitempty"`
	// Drained lists tasks of this node that no node's balancers use any more: they may be stopped.
	Drained []shoal.TaskID `json:",omitempty"`
	// Logs asks for logs of the node's tasks.
	Logs *LogRequest `json:",omitempty"`
	// StopLogs is the LogRequest.ID of a request that has ended: the agent stops sending lines.
	StopLogs string `json:",omitempty"`
	// Open asks for a tunnel to the node's API and gives it a name: the agent calls Handler.Tunnel with it.
	Open string `json:",omitempty"`
}

// Redirect sends an agent to the leader.
type Redirect struct {
	// Leader is the leader's address, "host:2377"; empty while there is none.
	Leader string
}

// Welcome answers Hello. It is sent again whenever a field of it changes.
type Welcome struct {
	// Heartbeat is how long either side may be silent before the other ends the session.
	Heartbeat time.Duration
	// Managers is the addresses of all managers, "host:2377", the leader's first.
	Managers []string
	// Role is the role that the node should have; the agent asks for another certificate if its own says otherwise.
	Role shoal.NodeRole
	// Trust is the root certificates that the node should trust (PEM). Issuer is the public key (DER) of the root that should have
	// signed the node's certificate; the agent asks for another if it was signed by a different one.
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
	ID    string // names the request in LogMessage.Subscription and ManagerMessage.StopLogs
	Query shoal.LogQuery
}

// LogMessage is one log line. The first message of a stream has no line and names the LogRequest that the stream answers.
type LogMessage struct {
	Subscription string
	Line         *shoal.LogLine `json:",omitempty"`
}

// LogReply ends a log stream.
type LogReply struct{}
