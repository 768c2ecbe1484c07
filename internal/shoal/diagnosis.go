package shoal

import "time"

// Diagnosis is what a node finds when it looks at its own networking.
type Diagnosis struct {
	NodeID   NodeID
	Hostname string
	// Problems is what is wrong, in sentences for the user; empty on a healthy node.
	Problems []string
	// Checked counts what was checked, by kind ("parts", "resolvers").
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
	// RoundTrip is the time between one probe and its answer; 0 if there was none.
	RoundTrip time.Duration
	// MTU is the size in bytes of the largest packet that was tried and arrived; 0 if none did.
	MTU int
	// Tunnel tells whether the node's ingress address was reached through the VXLAN tunnel; also true if it has no such address.
	Tunnel bool
	// Encrypted tells that the two nodes are on a common encrypted network, and Handshake is when they last agreed on a key for it.
	Encrypted bool
	Handshake time.Time
}

// Repair is kernel state that other programs had changed and that shoal has restored.
type Repair struct {
	At   time.Time
	What string // a sentence for the user
	// Err says why it could not be restored; empty if it was.
	Err string
}
