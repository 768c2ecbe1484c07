package diagnosis

import (
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// checkEncryption says what encrypts traffic, and adds to the peers when a key was last agreed on with each.
func (c Checkup) checkEncryption(d *shoal.Diagnosis) {
	what, handshakes, err := c.Plane.Encryption()
	d.Encryption = what
	if err != nil {
		d.Problems = append(d.Problems, "the state of WireGuard could not be read: "+err.Error())
	}
	keys := map[shoal.NodeID]string{}
	for _, p := range c.Snapshot.Encrypted {
		keys[p.NodeID] = p.TunnelKey
	}
	for i := range d.Peers {
		p := &d.Peers[i]
		key, err := wireguard.ParseKey(keys[p.NodeID])
		if err == nil && what != "" {
			p.Encrypted, p.Handshake = true, handshakes[key]
		}
	}
}

// maxKeyAge is WireGuard's Reject-After-Time: the age at which it stops using a session key.
const maxKeyAge = 3 * time.Minute

func encryptionProblems(p shoal.PeerDiagnosis, now time.Time) []string {
	if !p.Encrypted || now.Sub(p.Handshake) < maxKeyAge {
		return nil
	}
	return []string{fmt.Sprintf("no key for encrypted networks was agreed on with node %s in the last %v: is the UDP port after that of VXLAN open between the nodes?",
		p.Hostname, maxKeyAge)}
}
