// Package diagnosis is what `shoal doctor` shows of a node's networking: whether names resolve, peers answer and keys are agreed on. It reads a
// snapshot of the networks, asks the data plane, resolvers and peers, and writes nothing.
package diagnosis

import (
	"context"
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Plane is the data plane as it is asked.
type Plane interface {
	// Encryption says what encrypts traffic, empty for nothing, and when a key was last agreed on with each peer.
	Encryption() (what string, handshakes map[wireguard.Key]time.Time, err error)
	// Parts is how many parts the applied config has.
	Parts() int
	// PathMTU is the MTU in bytes of the interface that has the address.
	PathMTU(local netip.Addr) int
	// InNode runs a function in the node's namespace.
	InNode(f func() error) error
	// Inside runs a function in a sandbox's namespace.
	Inside(namespace string, f func() error) error
}

// Snapshot is what the node knows of its networks.
type Snapshot struct {
	NodeID shoal.NodeID
	Self   shoal.Peer   // the zero value if the table does not have the node
	Peers  []shoal.Peer // the other nodes that answer probes
	// Encrypted is those peers that traffic to is encrypted.
	Encrypted []shoal.Peer
	// Resolvers is the containers that have a resolver and a name on a network.
	Resolvers []Resolver
}

// Resolver is a container's.
type Resolver struct {
	Namespace string
	Name      string // of the container
}

// Checkup is one look at a node's networking.
type Checkup struct {
	Plane    Plane
	Snapshot Snapshot
	// Repaired describes what other programs had changed and was restored just before.
	Repaired []string
}

// Run asks all that there is to ask. It takes some seconds if peers do not answer.
func (c Checkup) Run(ctx context.Context) shoal.Diagnosis {
	s := c.Snapshot
	d := shoal.Diagnosis{NodeID: s.NodeID, Hostname: s.Self.Hostname}
	for _, what := range c.Repaired {
		d.Problems = append(d.Problems, what+": had been changed by another program; it was restored")
	}
	d.Checked = map[string]int{"parts": c.Plane.Parts(), "resolvers": len(s.Resolvers)}
	d.Problems = append(d.Problems, c.checkResolvers(ctx)...)
	d.Peers = c.checkPeers(ctx)
	c.checkEncryption(&d)
	for _, p := range d.Peers {
		d.Problems = append(d.Problems, peerProblems(p)...)
		d.Problems = append(d.Problems, encryptionProblems(p, time.Now())...)
	}
	return d
}
