package shoal

import "time"

// Diagnosis is what a node finds when it looks at its own networking.
type Diagnosis struct {
	NodeID   NodeID
	Hostname string
	// Problems are in words; there are none on a healthy node.
	Problems []string
	// Checked counts what was looked at, by kind.
	Checked map[string]int
	Peers   []PeerDiagnosis
	// Encryption says what encrypts traffic, in words; empty if the node is on no encrypted network.
	Encryption string
	// Repaired counts the repairs since the daemon was started, and Repairs are the last of them, oldest first.
	Repaired uint64
	Repairs  []Repair
}

// PeerDiagnosis is how another node is reached.
type PeerDiagnosis struct {
	NodeID   NodeID
	Hostname string
	Addr     string // of the data path
	// RoundTrip is of one probe; 0 if there was no answer.
	RoundTrip time.Duration
	// MTU is the size of the largest packet that was tried and got there; 0 if none did.
	MTU int
	// Tunnel tells whether the node's ingress address was reached through the VXLAN tunnel. It is true if there is none to try.
	Tunnel bool
	// Encrypted tells that the two nodes are on a common encrypted network, and Handshake is when they last agreed on a key for it.
	Encrypted bool
	Handshake time.Time
}

// Repair is kernel state that others had changed and that was made anew.
type Repair struct {
	At   time.Time
	What string // in words
	// Err says why it could not be made anew, if it could not.
	Err string
}
