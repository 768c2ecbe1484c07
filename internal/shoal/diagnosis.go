package shoal

import "time"

// Diagnosis is what a node finds when it checks its own networking: the answer of `shoal doctor` for one node.
type Diagnosis struct {
	NodeID   NodeID
	Hostname string
	// Problems describes each fault in a sentence; it is empty for a healthy node.
	Problems []string
	// Checked counts what was checked, by kind: "parts" of the data plane and "resolvers".
	Checked map[string]int
	Peers   []PeerDiagnosis
	// Encryption names what encrypts traffic, the kernel or a process; empty if the node is on no encrypted network.
	Encryption string
	// Repaired counts the repairs since the daemon was started, and Repairs is the last hundred of them, oldest first.
	Repaired uint64
	Repairs  []Repair
}

// PeerDiagnosis is how another node is reached.
type PeerDiagnosis struct {
	NodeID   NodeID
	Hostname string
	Addr     string // IP address of the data path
	// RoundTrip is the time that one probe took; 0 if there was no answer.
	RoundTrip time.Duration
	// MTU is the size, in bytes, of the largest probe that was answered; 0 if none was.
	MTU int
	// Tunnel is false if the peer did not answer through the VXLAN tunnel, at its address on the ingress network. Without an ingress
	// network there is nothing to try and it is true.
	Tunnel bool
	// Encrypted means that the two nodes are on a common encrypted network. Handshake is when they last agreed on a key for it; zero if
	// they never did.
	Encrypted bool
	Handshake time.Time
}

// Repair is one part of the kernel's state that another program had changed and the node restored.
type Repair struct {
	At   time.Time
	What string // a description for users
	// Err says why it could not be restored; empty if it was.
	Err string
}
