package rpc

import (
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

type (
	// RootCARequest asks for the cluster's root certificate.
	RootCARequest struct{}
	// RootCAReply answers RootCARequest; Cert is PEM.
	RootCAReply struct{ Cert []byte }

	// JoinRequest asks for a node's first certificate.
	JoinRequest struct {
		Token        string             // the text of a join token
		CSR          []byte             // the certificate request, in PEM
		Availability shoal.Availability // empty means active
		// AdvertiseAddr is where the node wants to be reached; if it is not valid, the address that the connection came from counts. DataAddr
		// is where it wants VXLAN packets; if it is not valid, the same address.
		AdvertiseAddr netip.Addr
		DataAddr      netip.Addr
		Hostname      string
	}
	// RenewRequest asks for a new certificate for the calling node, which its present certificate names. CSR is PEM.
	RenewRequest struct{ CSR []byte }
	// RenewExpiredRequest is a RenewRequest of a node whose certificate is not valid any more, so that it cannot show it: the proof names the node.
	RenewExpiredRequest struct {
		CSR   []byte
		Proof ca.Proof
	}
	// CertificateReply answers JoinRequest, RenewRequest and RenewExpiredRequest.
	CertificateReply struct {
		NodeID    shoal.NodeID
		ClusterID shoal.ClusterID
		Role      shoal.NodeRole
		Cert      []byte   // PEM: the node's certificate, followed by shoal.Cluster.Intermediates
		Root      []byte   // PEM: the root certificates to trust
		Managers  []string // "host:2377", the leader first
		// Addr is the address under which the managers now know the node. Only the answer to JoinRequest has it.
		Addr netip.Addr
	}

	// MemberRequest asks that the calling manager become a member of the store.
	MemberRequest struct {
		Addr    string // where it will serve the node protocol: "10.0.0.1:2377"
		PeerURL string // where the other members will reach it
	}
	// MemberReply answers MemberRequest: what the new member has to start with.
	MemberReply struct {
		// PeerURLs is where all members are reached, the new one included.
		PeerURLs map[shoal.NodeID]string
		// Key is the sealing key of the store (store.Config.Key), the same on all managers.
		Key []byte
	}

	// LeaveRequest says that the calling node has left the cluster.
	LeaveRequest struct{}
	// LeaveReply answers LeaveRequest.
	LeaveReply struct{}

	// AttachRequest asks for an address on an attachable network, for a container of the calling node that is no task.
	AttachRequest struct {
		Network     string // name or ID
		ContainerID string
		Name        string     // of the container
		Address     netip.Addr // the one wanted; if it is not valid, any will do
		Aliases     []string
	}
	// AttachReply answers AttachRequest.
	AttachReply struct {
		TaskID  shoal.TaskID // of the task that stands for the container in the store
		Network shoal.TaskNetwork
		Name    string // of the network
	}
	// DetachRequest gives back what AttachRequest was granted: TaskID is that of its reply.
	DetachRequest struct{ TaskID shoal.TaskID }
	// DetachReply answers DetachRequest.
	DetachReply struct{}
)

// AgentMessage is a message from an agent on its session. The first has Hello set. One with nothing set is a heartbeat.
type AgentMessage struct {
	Hello    *Hello         `json:",omitempty"`
	Statuses []StatusReport `json:",omitempty"`
	// Applied is the version of the table that the node's kernel now has; 0 if the message does not say.
	Applied uint64 `json:",omitempty"`
	// AppliedPartly says the same of a table of which the kernel has refused a part. A manager of an earlier version passes over it, and so waits until
	// the table is applied wholly.
	AppliedPartly *AppliedPartly `json:",omitempty"`
}

// AppliedPartly is a table that the node's kernel has, save for some networks.
type AppliedPartly struct {
	Version uint64
	// Lagging is the networks on which the node may still open connections by an earlier table.
	Lagging []shoal.NetworkID
}

// Hello opens a session: it describes the node.
type Hello struct {
	Description shoal.NodeDescription
	// DataAddr is where the node wants VXLAN packets; if it is not valid, the address that the session comes from.
	DataAddr netip.Addr
	// ProbePort is the UDP port where the node answers liveness probes.
	ProbePort uint16
}

// StatusReport is a task's status as its agent sees it.
type StatusReport struct {
	TaskID shoal.TaskID
	Status shoal.TaskStatus
}

// ManagerMessage is a message from a manager on a session. A message carries only the fields that are set; one with none answers a heartbeat.
type ManagerMessage struct {
	// Redirect is all that a manager sends which is not the leader.
	Redirect *Redirect `json:",omitempty"`
	Welcome  *Welcome  `json:",omitempty"`
	Tasks    *Tasks    `json:",omitempty"`
	// Table is what has changed in the node's table since the last message that had one; the first of a session has all of it.
	Table *shoal.TableDelta `json:",omitempty"`
	// Drained is the tasks of this node that no load balancer of any node uses any more, so that they may be stopped.
	Drained []shoal.TaskID `json:",omitempty"`
	// Logs asks for log lines, which the agent sends with PublishLogs.
	Logs *LogRequest `json:",omitempty"`
	// StopLogs is the ID of a LogRequest whose lines are no longer wanted.
	StopLogs string `json:",omitempty"`
	// Open asks the agent to call Tunnel with this ID.
	Open string `json:",omitempty"`
}

// Redirect sends an agent to the leader.
type Redirect struct {
	// Leader is the leader's address, "10.0.0.1:2377"; empty while there is none.
	Leader string
}

// Welcome answers Hello. It is sent again whenever one of its fields changes.
type Welcome struct {
	// Heartbeat is the heartbeat timeout: either side ends the session when it has received nothing for that long.
	Heartbeat time.Duration
	// Managers is the addresses of all managers, "10.0.0.1:2377", the leader first.
	Managers []string
	// Role is the role that the node should have. If its certificate has another, it renews the certificate.
	Role shoal.NodeRole
	// Trust is the root certificates that the node has to trust (PEM), and Issuer the public key (DER) of the root that must have signed its
	// certificate. If another has, it renews the certificate.
	Trust  []byte
	Issuer []byte
}

// Tasks is the tasks that are assigned to the node, or what has changed in them, with the secrets and configs that they use.
type Tasks struct {
	// Full means that the message lists all tasks: those that are not in Put are no longer assigned.
	Full    bool
	Put     []shoal.Task   `json:",omitempty"`
	Removed []shoal.TaskID `json:",omitempty"`
	Secrets []shoal.Secret `json:",omitempty"`
	Configs []shoal.Config `json:",omitempty"`
}

// LogRequest asks an agent, or the leader, for the logs of tasks.
type LogRequest struct {
	ID    string // by which the agent's LogMessage and StopLogs refer to it; empty when the leader is asked
	Query shoal.LogQuery
}

// LogMessage is one log line. The first message of a stream has no line and only says which request the stream answers.
type LogMessage struct {
	Subscription string         // LogRequest.ID
	Line         *shoal.LogLine `json:",omitempty"`
}

// LogReply ends a log stream.
type LogReply struct{}
